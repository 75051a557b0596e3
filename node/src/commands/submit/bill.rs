//! What pictures cost, before anything is sent.

use std::path::PathBuf;

use ocelli_consensus::network::Network;
use ocelli_consensus::{Action, Amount};
use ocelli_model::{Attachment, Model};
use serde_json::json;

use super::super::error::CommandError;
use super::super::network_model::{Offered, Wanted, named};
use super::super::output::Printer;
use super::super::pictures::{Problems, Seen};
use super::super::table::Answers;
use super::super::wallet::too_little;
use super::super::{evidence, pictures, wallet};
use super::{Args, BATCH, find_bootstrap, join};
use crate::client::fee::{default_fee, weight};
use crate::inference::{facts_of, model_id};
use crate::task;

/// Why a price cannot be named.
pub(super) const TOO_MUCH: &str = "fees and royalties together exceed all the credits there can be";

/// Says what pictures would cost. No wallet is needed, and no node for a model that the network has from its beginning.
pub(super) fn estimate(
    args: &Args,
    network: &Network,
    wanted: Wanted,
    files: &[PathBuf],
    early: Option<Bill>,
    output: &mut Printer,
) -> Result<(), CommandError> {
    let offered = match wanted {
        Wanted::Here(model) if network.parameters.genesis_facts(&model_id(&model)).is_some() => {
            Offered { model, royalty: Amount::ZERO }
        }
        wanted => {
            let mut client = join(args, network, &find_bootstrap(&args.peer, network)?)?;
            let height = client.chain_status()?.height;
            wanted.find(network, &mut client, height)?
        }
    };
    let bill = early.map_or_else(|| Bill::of_left(args, files, &offered), Ok)?;
    let (Bill { pictures, bytes, fees, .. }, royalties) = (&bill, bill.royalties(&offered)?);
    let total = fees.checked_add(royalties).ok_or_else(|| CommandError::usage(TOO_MUCH))?;
    if output.is_json() {
        return output.json(&json!({
            "pictures": pictures, "bytes": bytes, "fees": fees.to_string(), "royalties": royalties.to_string(),
            "total": total.to_string(), "model": offered.model.name(), "model_id": model_id(&offered.model),
            "network": network.parameters.name, "problems": bill.problems,
        }));
    }
    output.rows(&[
        ("pictures", format!("{pictures}, {bytes} bytes as they are sent{}", bill.left_out())),
        ("fees", format!("{fees} credits, the least that nodes take unless --fee says otherwise")),
        ("royalties", format!("{royalties} credits to the author of {}", named(&offered.model))),
        ("total", format!("{total} credits on network {}", network.parameters.name)),
    ])
}

/// Says what would be asked, what it would cost and what that leaves of the wallet's balance. No password is needed.
pub(super) fn dry_run(
    args: &Args,
    network: &Network,
    wanted: Wanted,
    files: &[PathBuf],
    early: Option<Bill>,
    output: &mut Printer,
) -> Result<(), CommandError> {
    // The wallet first: no node is needed to say that there is none.
    let address = args.wallet.address()?;
    let mut client = join(args, network, &find_bootstrap(&args.peer, network)?)?;
    let account = client.account(address)?;
    let offered = wanted.find(network, &mut client, account.height)?;
    evidence::warn_of_left(&client);
    let bill = early.map_or_else(|| Bill::of_left(args, files, &offered), Ok)?;
    let total = bill.check(args, &offered)?;
    let Some(left) = account.balance.checked_sub(total) else {
        return Err(too_little(network, address, account.balance, total));
    };
    let (Bill { pictures, bytes, fees, .. }, royalties) = (&bill, bill.royalties(&offered)?);
    let (model, network) = (&offered.model, &network.parameters.name);
    let fields = json!({
        "pictures": pictures, "bytes": bytes, "model": model.name(), "model_id": model_id(model), "network": network,
        "problems": bill.problems,
    });
    let rows = vec![
        ("pictures", format!("{pictures}, {bytes} bytes as they are sent, on network {network}{}", bill.left_out())),
        ("model", named(model)),
    ];
    let amounts =
        [("fees", *fees), ("royalties", royalties), ("total", total), ("balance", account.balance), ("left", left)];
    let waiting = account.next_nonce.saturating_sub(account.nonce);
    wallet::dry_run(output, (fields, rows), &amounts, &account, waiting)
}

/// What pictures cost, all of which can be used.
#[derive(Default)]
pub(super) struct Bill {
    pictures: u64,
    /// As they are sent.
    bytes: usize,
    fees: Amount,
    /// The highest fee, and the picture's.
    dearest: (Amount, String),
    /// Pictures that will not be asked about.
    problems: usize,
    /// What the table has cost by now.
    spent: Amount,
    /// All of them, where they are no more than a batch: so that a pipe is read once.
    pub(super) kept: Vec<(String, Attachment)>,
}

impl Bill {
    /// Reads all pictures, some at a time.
    ///
    /// # Errors
    /// That says of all which cannot be used.
    pub(super) fn of(args: &Args, files: &[PathBuf], model: &Model) -> Result<Self, CommandError> {
        let (bill, problems) = Self::read(args, files, model, |_| Ok(()))?;
        problems.check(files.len(), "; nothing was sent").map(|()| bill)
    }

    /// The same of those that the table has no paid answer of, if there is one: those that cannot be used or are too dear get a row
    /// there, and cost nothing.
    fn of_left(args: &Args, files: &[PathBuf], offered: &Offered) -> Result<Self, CommandError> {
        let Some(table) = &args.csv else { return Self::of(args, files, &offered.model) };
        let answers = Answers::read(table)?;
        let id = offered.model.id().to_string();
        let is_left = |file: &&PathBuf| !answers.has_paid(&pictures::name(file), &id);
        let left: Vec<PathBuf> = files.iter().filter(is_left).cloned().collect();
        let (bill, problems) = Self::read(args, &left, &offered.model, |fee| check_price(args, offered, fee))?;
        Ok(Self { problems: problems.count(), spent: answers.paid(), ..bill })
    }

    /// Reads pictures; those that cannot be used, or whose fee is refused, are problems.
    fn read(
        args: &Args,
        files: &[PathBuf],
        model: &Model,
        check: impl Fn(Amount) -> Result<(), String>,
    ) -> Result<(Self, Problems), CommandError> {
        let (mut bill, mut problems) = (Self::default(), Problems::default());
        for batch in files.chunks(BATCH) {
            for (file, read) in batch.iter().zip(pictures::read_all(batch, model)) {
                let priced = read.and_then(|Seen { attachment, .. }| {
                    let (_, fee) = price(args, model, Amount::ZERO, &attachment);
                    check(fee).map(|()| (attachment, fee))
                });
                match priced {
                    Ok((attachment, fee)) => bill.add(pictures::name(file), attachment, fee)?,
                    Err(problem) => problems.add(&pictures::name(file), &problem),
                }
            }
        }
        Ok((bill, problems))
    }

    fn add(&mut self, file: String, attachment: Attachment, fee: Amount) -> Result<(), CommandError> {
        self.pictures += 1;
        self.bytes += attachment.bytes.len();
        self.fees = self.fees.checked_add(fee).ok_or_else(|| CommandError::usage(TOO_MUCH))?;
        if self.pictures == 1 || fee > self.dearest.0 {
            self.dearest = (fee, file.clone());
        }
        match self.pictures as usize {
            1..=BATCH => self.kept.push((file, attachment)),
            _ => self.kept = Vec::new(),
        }
        Ok(())
    }

    fn left_out(&self) -> String {
        match self.problems {
            0 => String::new(),
            problems => format!("; {problems} more cannot be used or cost too much"),
        }
    }

    fn royalties(&self, offered: &Offered) -> Result<Amount, CommandError> {
        offered.royalty.0.checked_mul(self.pictures).map(Amount).ok_or_else(|| CommandError::usage(TOO_MUCH))
    }

    /// What all cost, if that may be spent.
    pub(super) fn check(&self, args: &Args, offered: &Offered) -> Result<Amount, CommandError> {
        let (fee, file) = &self.dearest;
        check_price(args, offered, *fee).map_err(|problem| {
            CommandError::failed(format!("{file} {problem}; nothing was sent"))
                .with_hint("allow more, or send smaller pictures: `ocelli submit --estimate` tells the price")
        })?;
        let total = self.fees.checked_add(self.royalties(offered)?).ok_or_else(|| CommandError::usage(TOO_MUCH))?;
        check_total(args, self.pictures as usize, total, self.spent)?;
        Ok(total)
    }
}

/// Fails where so many pictures cost more than may be spent in all.
pub(super) fn check_total(args: &Args, pictures: usize, needed: Amount, spent: Amount) -> Result<(), CommandError> {
    let Some(most) = args.max_total else { return Ok(()) };
    if spent.checked_add(needed).is_some_and(|total| total <= most) {
        return Ok(());
    }
    Err(CommandError::failed(format!(
        "the next {pictures} pictures cost {needed} credits, {spent} were spent before, and --max-total is {most}"
    ))
    .with_hint("allow more, or be content with what was answered"))
}

/// What a task of a picture does, and the fee that it offers.
pub(super) type Offer = (Action, Amount);

/// What one picture costs.
pub(super) fn price(args: &Args, model: &Model, royalty: Amount, attachment: &Attachment) -> Offer {
    let action = task::classify(model, royalty, attachment);
    let fee = args.fee.unwrap_or_else(|| default_fee(weight(&action, Some(&facts_of(model)))));
    (action, fee)
}

/// Why a picture is not asked about: it costs more than is allowed for one.
pub(super) fn check_price(args: &Args, offered: &Offered, fee: Amount) -> Result<(), String> {
    let (price, most) = (fee.checked_add(offered.royalty), args.max_fee.unwrap_or(Amount(u64::MAX)));
    match price {
        Some(price) if price <= most => Ok(()),
        Some(price) => Err(format!("costs {price} credits, at most {most} are allowed by --max-fee")),
        None => Err("costs more than all the credits there can be".into()),
    }
}
