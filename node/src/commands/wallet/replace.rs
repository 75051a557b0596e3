//! `ocelli wallet bump` and `cancel`: another transaction in the place of one that waits.

use ocelli_consensus::network::Network;
use ocelli_consensus::transaction::{Action, Transaction, Unsigned};
use ocelli_consensus::{Address, Amount, TxId};
use ocelli_protocol::message::Submission;
use serde_json::json;

use super::super::error::CommandError;
use super::super::evidence;
use super::super::output::Printer;
use super::super::peer_option::PeerOption;
use super::super::wallet_option::{WalletOption, address_of};
use super::{Waiting, dry_run, state, too_little};
use crate::client::Client;
use crate::client::confirmation::Found;
use crate::client::fee::{default_fee, expiry, weight};

/// Offer a higher fee for a transaction that waits: the same again, in its place
#[derive(Debug, clap::Args)]
pub struct BumpArgs {
    #[command(flatten)]
    replacing: Replacing,
}

/// Withdraw a transaction that waits, as far as it still can be: a transfer of nothing to oneself takes its place
///
/// Nobody can promise it: a miner may have the first one in a block already. What comes after it from the same wallet stays as it
/// is, or goes too where it could not follow.
#[derive(Debug, clap::Args)]
pub struct CancelArgs {
    #[command(flatten)]
    replacing: Replacing,
}

/// What is replaced, and for how much.
#[derive(Debug, Clone, clap::Args)]
struct Replacing {
    /// The transaction that waits
    #[arg(value_name = "TXID")]
    txid: TxId,

    /// What the miner gets, in credits [default: what the first one offers, and the least that nodes take for one like it
    /// besides]
    #[arg(long, value_name = "AMOUNT")]
    fee: Option<Amount>,

    /// Say what it would cost and leave, and send nothing
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    waiting: Waiting,

    #[command(flatten)]
    wallet: WalletOption,

    #[command(flatten)]
    peer: PeerOption,
}

/// Runs `ocelli wallet bump`.
///
/// # Errors
/// For a wallet that cannot be used, a transaction that does not wait or is another's, and nodes that do not take its successor.
pub fn bump(args: &BumpArgs, output: &mut Printer) -> Result<(), CommandError> {
    args.replacing.run(output, |action, _| action)
}

/// Runs `ocelli wallet cancel`.
///
/// # Errors
/// As [`bump`].
pub fn cancel(args: &CancelArgs, output: &mut Printer) -> Result<(), CommandError> {
    args.replacing.run(output, |_, from| Action::Transfer { to: from, amount: Amount::ZERO })
}

impl Replacing {
    fn run(&self, output: &mut Printer, change: impl FnOnce(Action, Address) -> Action) -> Result<(), CommandError> {
        let wallet = self.wallet.open()?;
        let mut client = self.peer.connect()?;
        let network = client.network().clone();
        self.wallet.check(&network)?;
        let from = address_of(&wallet);
        let Some(Submission { transaction: first, attachment }) = client.pending(self.txid)? else {
            return Err(why_not(&mut client, self.txid)?);
        };
        if first.sender() != from {
            let prefix = &network.parameters.address_prefix;
            let (sender, from) = (first.sender().to_text(prefix), from.to_text(prefix));
            let message = format!("transaction {} is of {sender}, not of {from}", self.txid);
            return Err(CommandError::failed(message).with_hint("name the wallet that has sent it with --wallet"));
        }
        let action = change(first.unsigned.action.clone(), from);
        let fee = match self.fee {
            Some(fee) if fee <= first.unsigned.fee => {
                return Err(CommandError::usage(format!(
                    "the fee is {fee}, expected more than the {} that the transaction offers",
                    first.unsigned.fee
                )));
            }
            Some(fee) => fee,
            None => fee_of(&mut client, &network, &first, &action)?,
        };
        let account = client.account(from)?;
        let unsigned = Unsigned { nonce: first.unsigned.nonce, fee, expires: expiry(account.height), action };
        let transaction =
            Transaction::sign(unsigned, wallet.public_key(), network.genesis_hash(), |hash| wallet.sign(hash));
        let needed = transaction.total(&network.parameters).unwrap_or(Amount(u64::MAX));
        let Some(left) = account.balance.checked_sub(needed) else {
            return Err(too_little(&network, from, account.balance, needed));
        };
        if self.dry_run {
            evidence::warn_of_left(&client);
            let waiting = account.next_nonce.saturating_sub(account.nonce).saturating_sub(1);
            let fees = [("first_fee", first.unsigned.fee), ("fee", fee), ("balance", account.balance), ("left", left)];
            return dry_run(output, (json!({}), Vec::new()), &fees, &account, waiting);
        }
        let txid = transaction.txid();
        let attachment = attachment.filter(|_| transaction.attachment().is_some());
        let submission = Submission { transaction, attachment };
        client.hand_in(&submission)?;
        let confirmed = self.waiting.wait(&mut client, submission)?;
        evidence::warn_of_left(&client);
        if output.is_json() {
            return output.json(&json!({
                "txid": txid,
                "replaces": self.txid,
                "fee": fee.to_string(),
                "height": confirmed.as_ref().map(|confirmed| confirmed.header.height),
                "confirmations": confirmed.as_ref().map_or(0, |confirmed| confirmed.evidence.confirmations),
                "evidence": confirmed.map(|confirmed| evidence::json(&confirmed.evidence)),
            }));
        }
        output.rows(&[
            ("transaction", txid.to_string()),
            ("replaces", format!("{}, whose fee was {}", self.txid, first.unsigned.fee)),
            ("fee", format!("{fee} credits")),
            ("state", state(txid, confirmed.as_ref())),
        ])
    }
}

/// What a replacement offers when nobody says otherwise: what nodes ask for one. What a node says of a model cannot make it more than
/// double: whatever waits pays the least fee of its weight at least, and that is what a replacement adds.
fn fee_of(
    client: &mut Client,
    network: &Network,
    first: &Transaction,
    action: &Action,
) -> Result<Amount, CommandError> {
    let facts = match action.model() {
        None => None,
        Some(id) => match network.parameters.genesis_facts(&id) {
            None => client.model(id)?.map(|model| model.record.facts),
            known => known,
        },
    };
    let weight = weight(action, facts.as_ref());
    let least = default_fee(weight).min(first.unsigned.fee);
    Ok(Amount(first.unsigned.fee.0.saturating_add(least.0)))
}

/// Why there is nothing to replace.
fn why_not(client: &mut Client, txid: TxId) -> Result<CommandError, CommandError> {
    Ok(match client.find(txid)? {
        Found::Confirmed(confirmation, evidence) => CommandError::failed(format!(
            "transaction {txid} is in block {}, {evidence}: it can be neither replaced nor withdrawn",
            confirmation.header.height
        )),
        Found::Dropped(reason) => CommandError::failed(format!("transaction {txid} waits no more: {reason}"))
            .with_hint("send it again, with a higher --fee if others pay more"),
        Found::Unknown | Found::Pending => {
            CommandError::failed(format!("no node that was asked has transaction {txid} waiting"))
                .with_hint("check the id and the network, or ask another node with --peer")
        }
    })
}
