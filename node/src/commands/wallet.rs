//! `ocelli wallet`.

mod history;
mod keys;
mod message;
mod replace;

use std::time::Duration;

use ocelli_consensus::network::{DEV_WALLET_SEED, Network};
use ocelli_consensus::transaction::{Action, Transaction, Unsigned};
use ocelli_consensus::{Address, Amount, TxId};
use ocelli_protocol::message::Submission;
use serde_json::{Map, Value, json};

use super::error::{CommandError, Explain as _};
use super::evidence;
use super::output::{Printer, Whole};
use super::peer_option::PeerOption;
use super::turn;
use super::wallet_option::{WalletOption, address_of};
use crate::client::Client;
use crate::client::account::Known;
use crate::client::confirmation::{Confirmed, Tracked, TransactionState};
use crate::client::fee::{default_fee, expiry, weight};
use crate::json;
use crate::wallet::Wallet;

/// How long another command may take to hand in what it has signed with the same key.
const TURN_TIME: Duration = Duration::from_secs(60);

/// Keep a key, and send credits
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    New(NewArgs),
    Import(keys::ImportArgs),
    Export(keys::ExportArgs),
    List(keys::ListArgs),
    Address(AddressArgs),
    Balance(BalanceArgs),
    History(history::Args),
    Send(SendArgs),
    Bump(replace::BumpArgs),
    Cancel(replace::CancelArgs),
    Sign(message::SignArgs),
    Verify(message::VerifyArgs),
}

/// Make a new wallet: an Ed25519 key in a file that a password protects
#[derive(Debug, clap::Args)]
pub struct NewArgs {
    #[command(flatten)]
    wallet: WalletOption,

    /// The network whose address is printed: local, testnet, or a network file [default: testnet]
    #[arg(long, value_name = "NAME|FILE")]
    network: Option<String>,
}

/// Print the wallet's address, and nothing else; no password is needed
#[derive(Debug, clap::Args)]
pub struct AddressArgs {
    #[command(flatten)]
    wallet: WalletOption,

    /// The network of the address: local, testnet, or a network file [default: testnet, local for
    /// `--wallet dev`]
    #[arg(long, value_name = "NAME|FILE")]
    network: Option<String>,
}

/// Ask a node for the balance of the wallet, or of an address
#[derive(Debug, clap::Args)]
pub struct BalanceArgs {
    /// The address [default: the wallet's]
    #[arg(value_name = "ADDRESS")]
    address: Option<String>,

    #[command(flatten)]
    wallet: WalletOption,

    #[command(flatten)]
    peer: PeerOption,
}

/// Send credits to an address
#[derive(Debug, clap::Args)]
pub struct SendArgs {
    /// Who gets them
    #[arg(value_name = "ADDRESS")]
    to: String,

    /// How many credits, for example 1.5
    #[arg(value_name = "AMOUNT")]
    amount: Amount,

    /// What the miner gets, in credits [default: the least that nodes take]
    #[arg(long, value_name = "AMOUNT")]
    fee: Option<Amount>,

    /// Say what it would cost and leave, and send nothing; no password is needed
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    waiting: Waiting,

    #[command(flatten)]
    wallet: WalletOption,

    #[command(flatten)]
    peer: PeerOption,
}

/// How long a command stays with what it has sent.
#[derive(Debug, Clone, clap::Args)]
struct Waiting {
    /// Wait for so many confirmations
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    wait: u64,

    /// Stop waiting after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = timeout_parser())]
    timeout: u64,
}

impl Waiting {
    /// Waits as long as was asked for; where the transaction is confirmed then, if that was asked for.
    fn wait(&self, client: &mut Client, submission: Submission) -> Result<Option<Confirmed>, CommandError> {
        if self.wait == 0 {
            return Ok(None);
        }
        let states = client.wait(&[submission], self.wait, Duration::from_secs(self.timeout), |_, incidents| {
            evidence::tell_of(incidents);
        })?;
        check_depth(&states, self.wait, self.timeout)?;
        Ok(states.first().and_then(|tracked| tracked.state.confirmed().cloned()))
    }
}

/// Reads `--timeout`: up to a year, far from where adding it to the time of now could overflow.
pub(super) fn timeout_parser() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(..=365 * 24 * 3600)
}

/// Runs the command.
///
/// # Errors
/// For a wallet that cannot be used, and a node that cannot be asked or refuses.
pub fn run(command: Command, output: &mut Printer) -> Result<(), CommandError> {
    match command {
        Command::New(args) => new(&args, output),
        Command::Import(args) => keys::import(&args, output),
        Command::Export(args) => keys::export(&args, output),
        Command::List(args) => keys::list(&args, output),
        Command::Address(args) => address(&args, output),
        Command::Balance(args) => balance(&args, output),
        Command::History(args) => history::run(&args, output),
        Command::Send(args) => send(&args, output),
        Command::Bump(args) => replace::bump(&args, output),
        Command::Cancel(args) => replace::cancel(&args, output),
        Command::Sign(args) => message::sign(&args, output),
        Command::Verify(args) => message::verify(&args, output),
    }
}

fn new(args: &NewArgs, output: &mut Printer) -> Result<(), CommandError> {
    // Before the file is made, so that a mistyped network leaves none.
    let network = if args.wallet.is_dev() { None } else { Some(args.wallet.network(args.network.as_deref())?) };
    let (path, wallet) = args.wallet.create()?;
    let prefix = network.as_ref().map_or("toc", |network| &network.parameters.address_prefix);
    let address = address_of(&wallet).to_text(prefix);
    if output.is_json() {
        return output.json(&json!({ "address": address, "wallet": path }));
    }
    output.rows(&[("address", address), ("wallet", path.display().to_string())])?;
    output.line(format_args!(
        "Keep a copy of this file, and remember the password: nobody can restore either. Or write down the 24 words of\n\
         `ocelli wallet export --phrase{}`, which restore the wallet without both.",
        args.wallet.as_option()
    ))
}

fn address(args: &AddressArgs, output: &mut Printer) -> Result<(), CommandError> {
    let network = args.wallet.network(args.network.as_deref())?;
    let address = args.wallet.address()?.to_text(&network.parameters.address_prefix);
    if output.is_json() { output.json(&json!({ "address": address })) } else { output.line(address) }
}

/// Connects to look at an account: the named one, or the wallet's.
fn connect_for(
    address: Option<&str>,
    wallet: &WalletOption,
    peer: &PeerOption,
) -> Result<(Client, Network, Address), CommandError> {
    // The wallet first: no node is needed to say that there is none.
    let own = if address.is_none() { Some(wallet.address()?) } else { None };
    let client = peer.connect()?;
    let network = client.network().clone();
    let address = match (address, own) {
        (Some(text), _) => Address::from_text(text, &network.parameters.address_prefix)?,
        (None, Some(own)) => {
            wallet.check(&network)?;
            own
        }
        (None, None) => unreachable!("without an address the wallet was looked at"),
    };
    Ok((client, network, address))
}

fn balance(args: &BalanceArgs, output: &mut Printer) -> Result<(), CommandError> {
    let (mut client, network, address) = connect_for(args.address.as_deref(), &args.wallet, &args.peer)?;
    let prefix = &network.parameters.address_prefix;
    let account = client.account(address)?;
    evidence::warn_of_left(&client);
    let text = address.to_text(prefix);
    if output.is_json() {
        let fields = json!({
            "address": text,
            "balance": account.balance.to_string(),
            "grains": Whole(account.balance.0),
            "nonce": Whole(account.nonce),
            "next_nonce": Whole(account.next_nonce),
            "height": account.height,
            "network": network.parameters.name,
        });
        return output.json(&json::both(fields, evidence::account_json(&account)));
    }
    let pending = account.next_nonce.saturating_sub(account.nonce);
    output.rows(&[
        ("address", text),
        ("balance", format!("{} credits on {} at block {}", account.balance, network.parameters.name, account.height)),
        ("transactions", format!("{} sent, {pending} waiting", account.nonce)),
        ("checked", evidence::of_account(&account)),
    ])
}

fn send(args: &SendArgs, output: &mut Printer) -> Result<(), CommandError> {
    if args.amount == Amount::ZERO {
        return Err(CommandError::usage("the amount is 0, expected more"));
    }
    // The wallet first: no node is needed to say that there is none.
    let wallet = if args.dry_run { None } else { Some(args.wallet.open()?) };
    let from = wallet.as_ref().map_or_else(|| args.wallet.address(), |wallet| Ok(address_of(wallet)))?;
    let mut client = args.peer.connect()?;
    let network = client.network().clone();
    args.wallet.check(&network)?;
    let parameters = &network.parameters;
    let prefix = &parameters.address_prefix;
    let to = Address::from_text(&args.to, prefix).hint(|| {
        format!("give the address that the receiver's `ocelli wallet address --network {}` prints", parameters.name)
    })?;
    let receiver = client.account(to)?;
    if receiver.nonce == 0 && receiver.balance == Amount::ZERO && args.amount < parameters.minimum_balance {
        return Err(CommandError::failed(format!(
            "{} credits are too few for {}, which has none yet: {} or more are needed to open an account",
            args.amount, args.to, parameters.minimum_balance
        ))
        .with_hint("send more"));
    }
    // Until it is handed in: two commands that ask at once would be told the same nonce.
    let turn = if args.dry_run { None } else { Some(turn::wait(from, TURN_TIME)?) };
    let account = client.account(from)?;
    let action = Action::Transfer { to, amount: args.amount };
    let fee = args.fee.unwrap_or_else(|| default_fee(weight(&action, None)));
    let needed = args
        .amount
        .checked_add(fee)
        .ok_or_else(|| CommandError::usage("the amount and the fee together exceed all the credits there can be"))?;
    let Some(left) = account.balance.checked_sub(needed) else {
        return Err(too_little(&network, from, account.balance, needed));
    };
    let Some(wallet) = wallet else {
        evidence::warn_of_left(&client);
        let waiting = account.next_nonce.saturating_sub(account.nonce);
        // What goes to oneself comes back.
        let left = if to == from { Amount(left.0.saturating_add(args.amount.0)) } else { left };
        let amounts = [("amount", args.amount), ("fee", fee), ("balance", account.balance), ("left", left)];
        return dry_run(output, (json!({}), Vec::new()), &amounts, &account, waiting);
    };
    let unsigned = Unsigned { nonce: account.next_nonce, fee, expires: expiry(account.height), action };
    let transaction =
        Transaction::sign(unsigned, wallet.public_key(), network.genesis_hash(), |hash| wallet.sign(hash));
    let txid = transaction.txid();
    let submission = Submission { transaction, attachment: None };
    client.hand_in(&submission)?;
    drop(turn);
    let confirmed = args.waiting.wait(&mut client, submission)?;
    evidence::warn_of_left(&client);
    if output.is_json() {
        return output.json(&json!({
            "txid": txid,
            "from": from.to_text(prefix),
            "to": to.to_text(prefix),
            "amount": args.amount.to_string(),
            "fee": fee.to_string(),
            "height": confirmed.as_ref().map(|confirmed| confirmed.header.height),
            "confirmations": confirmed.as_ref().map_or(0, |confirmed| confirmed.evidence.confirmations),
            "evidence": confirmed.map(|confirmed| evidence::json(&confirmed.evidence)),
        }));
    }
    output.rows(&[
        ("transaction", txid.to_string()),
        ("sent", format!("{} credits to {}, fee {fee}", args.amount, to.to_text(prefix))),
        ("state", state(txid, confirmed.as_ref())),
    ])
}

/// Where a transaction is, for people.
fn state(txid: TxId, confirmed: Option<&Confirmed>) -> String {
    match confirmed {
        Some(confirmed) => format!("in block {}, {}", confirmed.header.height, confirmed.evidence),
        None => format!("pending: `ocelli chain tx {txid}` follows it"),
    }
}

/// Says what would have been sent and what it leaves, after what is said of it in JSON and for people; of `waiting` transactions nobody
/// knows here what they leave.
pub fn dry_run(
    output: &mut Printer,
    (fields, mut rows): (Value, Vec<(&str, String)>),
    amounts: &[(&str, Amount)],
    account: &Known,
    waiting: u64,
) -> Result<(), CommandError> {
    if output.is_json() {
        let amounts: Map<_, _> =
            amounts.iter().map(|(name, amount)| ((*name).to_owned(), json!(amount.to_string()))).collect();
        let fields = json::both(json::both(fields, amounts.into()), evidence::account_json(account));
        return output.json(&json::both(fields, json!({ "waiting": waiting, "sent": false })));
    }
    rows.extend(amounts.iter().map(|(name, amount)| (*name, format!("{amount} credits"))));
    rows.push(("checked", format!("the balance {}", evidence::of_account(account))));
    if waiting > 0 {
        rows.push(("waiting", format!("{waiting} transactions of the wallet, which take from it too")));
    }
    rows.push(("sent", "nothing: this was a dry run".into()));
    output.rows(&rows)
}

/// Fails unless every transaction has so many confirmations; says what was waited for in vain.
pub fn check_depth(states: &[Tracked], depth: u64, timeout: u64) -> Result<(), CommandError> {
    let missing: Vec<_> = states.iter().filter(|tracked| !tracked.state.is_deep(depth)).collect();
    let Some(first) = missing.first() else { return Ok(()) };
    let is_gone = |state: &TransactionState| {
        matches!(state, TransactionState::Dropped { refused: Some(_), .. } | TransactionState::Void(_))
    };
    if let Some(dropped) = missing.iter().find(|tracked| is_gone(&tracked.state)) {
        let message = format!("transaction {} will not be in a block: it was {}", dropped.txid, dropped.state);
        return Err(CommandError::failed(message)
            .with_hint("send it again, with a higher --fee if others pay more, or with the wallet's next nonce"));
    }
    Err(CommandError::failed(format!(
        "waited {timeout} s in vain for {depth} confirmations of {} of {} transactions; {} is {}",
        missing.len(),
        states.len(),
        first.txid,
        first.state
    ))
    .with_hint(format!(
        "look later with `ocelli chain tx {}`, wait longer with --timeout SECONDS, and see with `ocelli status` whether \
         blocks come at all",
        first.txid
    )))
}

/// Says that a wallet holds too little, and where credits come from.
pub fn too_little(network: &Network, address: Address, balance: Amount, needed: Amount) -> CommandError {
    let parameters = &network.parameters;
    let name = &parameters.name;
    let source = if name == "local" && address != address_of(&Wallet::from_seed(DEV_WALLET_SEED)) {
        "use --wallet dev, which has credits on network local, or send some from it: \
         `ocelli wallet send --wallet dev ADDRESS AMOUNT`"
            .into()
    } else {
        let address = address.to_text(&parameters.address_prefix);
        format!(
            "mine some with `ocelli node --network {name} --mine {address}`, or have somebody send them to this address"
        )
    };
    CommandError::failed(format!(
        "the balance of {} is {balance} credits on network {name}, and {needed} are needed",
        address.to_text(&parameters.address_prefix)
    ))
    .with_hint(source)
}
