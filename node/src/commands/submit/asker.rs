//! Signs tasks, hands them in, and sees them into blocks, whatever happens to the nodes meanwhile.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use ocelli_consensus::network::Network;
use ocelli_consensus::transaction::Unsigned;
use ocelli_consensus::{Amount, Transaction};
use ocelli_program::signals::stop_flag;
use ocelli_protocol::message::Submission;

use super::super::error::CommandError;
use super::super::folders;
use super::super::network_model::Offered;
use super::super::turn;
use super::super::wallet::{check_depth, too_little};
use super::super::wallet_option::address_of;
use super::{Args, Picture, Progress, check_price, join};
use crate::client::confirmation::{Incident, Tracked, TransactionState};
use crate::client::fee::expiry;
use crate::client::submission::{NodeReply, SubmitOutcome};
use crate::client::{Client, ClientError};
use crate::sent::{SENT_FOLDER, Sent};
use crate::wallet::Wallet;

/// Between two tries to join the network again, and between two looks at what nodes may change their minds about.
pub(super) const PAUSE: Duration = Duration::from_secs(2);
/// Between two times that what nodes are too busy for is handed in.
const BUSY_PAUSE: Duration = Duration::from_millis(500);
/// After so long without any node the network is joined anew: a node of this machine may have another address by then.
const LONELY: Duration = Duration::from_secs(15);
/// Bounds what is said of incidents: what nodes say of why they drop something may be anything.
const MOST_SAID: usize = 1_000;
/// How often tasks are signed anew whose nonces others have taken before they were handed in.
const SIGNED_ANEW: usize = 3;

/// Who asks about pictures.
pub(super) struct Asker<'a> {
    pub(super) args: &'a Args,
    pub(super) network: &'a Network,
    pub(super) addresses: &'a [String],
    pub(super) offered: Offered,
    pub(super) wallet: Wallet,
    pub(super) client: Client,
    pub(super) progress: Progress,
    /// What has happened to tasks and was said, so that it is said once.
    pub(super) said: BTreeSet<Incident>,
}

/// Tasks that were handed in, each with what the nodes have said.
pub(super) struct HandedIn {
    pub(super) submissions: Vec<Submission>,
    pub(super) replies: Vec<Vec<NodeReply>>,
}

impl Asker<'_> {
    /// How long anything is waited for.
    pub(super) fn patience(&self) -> Duration {
        Duration::from_secs(self.args.timeout)
    }

    /// Signs tasks and hands them in; `spent` was before. `keep` writes down what was signed, before anybody else sees it; again, if
    /// some had to be signed anew, as other transactions of the key have their nonces for good.
    ///
    /// # Errors
    /// For what may not be spent or is not there, and if no node is to be found in time.
    pub(super) fn send(
        &mut self,
        pictures: &[Picture],
        spent: Amount,
        keep: impl Fn(&Self, &[Submission]) -> Result<(), CommandError>,
    ) -> Result<HandedIn, CommandError> {
        let mut turn = turn::wait(address_of(&self.wallet), self.patience())?;
        let all: Vec<&Picture> = pictures.iter().collect();
        let mut submissions = self.sign(&all, spent)?;
        keep(self, &submissions)?;
        self.keep_what_is_sent(&all, &submissions);
        let mut replies = self.hand_in(&submissions)?;
        for _ in 0..SIGNED_ANEW {
            let overtaken = self.overtaken(&submissions, &replies)?;
            if overtaken.is_empty() {
                break;
            }
            self.progress.note(&format!(
                "other transactions of the same key have the nonces of {} tasks, which no node has taken: waiting until blocks hold \
                 those, to sign the tasks anew",
                overtaken.len()
            ));
            // Other programs may send meanwhile.
            drop(turn);
            let refused: Vec<_> = overtaken.iter().map(|&index| submissions[index].clone()).collect();
            let void = self.wait_until_void(&refused)?;
            turn = turn::wait(address_of(&self.wallet), self.patience())?;
            let anew: Vec<usize> =
                overtaken.iter().zip(void).filter(|(_, void)| *void).map(|(&index, _)| index).collect();
            let again: Vec<&Picture> = anew.iter().map(|&index| &pictures[index]).collect();
            let signed = self.sign(&again, spent)?;
            for (&index, submission) in anew.iter().zip(&signed) {
                submissions[index] = submission.clone();
            }
            keep(self, &submissions)?;
            self.keep_what_is_sent(&again, &signed);
            // The others are taken after all.
            let tried: Vec<_> = overtaken.iter().map(|&index| submissions[index].clone()).collect();
            for (index, said) in overtaken.into_iter().zip(self.hand_in(&tried)?) {
                replies[index] = said;
            }
        }
        drop(turn);
        Ok(HandedIn { submissions, replies })
    }

    /// Waits until tasks that no node has taken are void, or nodes have taken them after all: which of them are void. A node that has
    /// refused one has seen its signature, and may put it into a block for as long as what has its nonce waits, or can be taken back by
    /// a reorganisation: only when that is confirmed as often as is waited for are they signed anew, with other nonces.
    fn wait_until_void(&mut self, tasks: &[Submission]) -> Result<Vec<bool>, CommandError> {
        let (depth, deadline) = (self.args.wait.max(1), Instant::now() + self.patience());
        loop {
            let states = self.wait(tasks, depth, (Instant::now() + LONELY).min(deadline), |_, _| {})?;
            let is_nowhere = |tracked: &Tracked| match tracked.state {
                TransactionState::Unanswered | TransactionState::Lost(_) | TransactionState::Dropped { .. } => true,
                TransactionState::Pending | TransactionState::Void(_) | TransactionState::Confirmed(_) => false,
            };
            if !states.iter().any(is_nowhere) {
                return Ok(states.iter().map(|tracked| matches!(tracked.state, TransactionState::Void(_))).collect());
            }
            if Instant::now() >= deadline {
                check_depth(&states, depth, self.args.timeout)?;
            }
            self.client.pause((Instant::now() + PAUSE).min(deadline))?;
        }
    }

    /// Signs a task for every picture, with consecutive nonces, after looking whether the wallet can pay for all and may.
    fn sign(&mut self, pictures: &[&Picture], spent: Amount) -> Result<Vec<Submission>, CommandError> {
        let from = address_of(&self.wallet);
        let account = self.client.account(from)?;
        let mut needed = Amount::ZERO;
        let mut submissions = Vec::new();
        for (nonce, picture) in (account.next_nonce..).zip(pictures) {
            let (action, fee) = picture.offer.clone();
            check_price(self.args, &self.offered, fee)
                .map_err(|problem| CommandError::failed(format!("{} {problem}", picture.file)))?;
            let unsigned = Unsigned { nonce, fee, expires: expiry(account.height), action };
            let (key, genesis) = (self.wallet.public_key(), self.network.genesis_hash());
            let transaction = Transaction::sign(unsigned, key, genesis, |hash| self.wallet.sign(hash));
            let total = transaction.total(&self.network.parameters).and_then(|total| needed.checked_add(total));
            needed = total.ok_or_else(|| CommandError::usage(super::TOO_MUCH))?;
            let attachment = picture.attachment.bytes.as_slice().into();
            submissions.push(Submission { transaction, attachment: Some(attachment) });
        }
        super::check_total(self.args, pictures.len(), needed, spent)?;
        if account.balance < needed {
            return Err(too_little(self.network, from, account.balance, needed));
        }
        Ok(submissions)
    }

    /// Keeps what is sent where that is not the file itself, with the hashes of both, as encoding a picture anew cannot be repeated.
    fn keep_what_is_sent(&self, pictures: &[&Picture], submissions: &[Submission]) {
        let Ok(folder) = folders::base().map(|base| base.join(SENT_FOLDER)) else { return };
        for (picture, submission) in pictures.iter().zip(submissions) {
            let kept = Sent::of(Some(&picture.file), &picture.attachment).keep(&folder, &submission.transaction.txid());
            if let Err(error) = kept {
                let folder = folder.display();
                return self.progress.note(&format!("warning: what is sent is not kept in {folder}: {error}"));
            }
        }
    }

    /// Hands tasks in and returns what the nodes say of each. Where all have gone, the network is joined again; where some are only
    /// busy, they are asked again.
    pub(super) fn hand_in(&mut self, submissions: &[Submission]) -> Result<Vec<Vec<NodeReply>>, CommandError> {
        let deadline = Instant::now() + self.patience();
        let mut replies: Vec<Option<Vec<NodeReply>>> = submissions.iter().map(|_| None).collect();
        loop {
            let open: Vec<usize> = (0..submissions.len()).filter(|&index| replies[index].is_none()).collect();
            if open.is_empty() {
                return Ok(replies.into_iter().flatten().collect());
            }
            self.progress.say("waiting for preliminary answers");
            let tried: Vec<_> = open.iter().map(|&index| submissions[index].clone()).collect();
            let (mut is_lonely, mut is_busy) = (false, false);
            match self.client.submit(&tried, |_, _| {}) {
                Ok(said) => {
                    let is_late = Instant::now() >= deadline;
                    for (index, said) in open.into_iter().zip(said) {
                        let has = |wanted: fn(&SubmitOutcome) -> bool| said.iter().any(|reply| wanted(&reply.outcome));
                        let is_settled =
                            has(|outcome| !is_silent(outcome) && !matches!(outcome, SubmitOutcome::Busy(_)));
                        if is_settled || is_late && !said.is_empty() {
                            replies[index] = Some(said);
                        } else if has(|outcome| matches!(outcome, SubmitOutcome::Busy(_))) {
                            is_busy = true;
                        } else {
                            is_lonely = true;
                        }
                    }
                    if is_late && is_lonely {
                        return Err(ClientError::Alone.into());
                    }
                }
                Err(ClientError::Alone) if Instant::now() < deadline => is_lonely = true,
                Err(error) => return Err(error.into()),
            }
            if is_lonely {
                self.join_again(deadline)?;
            } else if is_busy {
                self.client.pause(Instant::now() + BUSY_PAUSE)?;
            }
        }
    }

    /// Which tasks no node has taken, as another transaction of the key has their nonce.
    fn overtaken(
        &mut self,
        submissions: &[Submission],
        replies: &[Vec<NodeReply>],
    ) -> Result<Vec<usize>, CommandError> {
        let mut refused = all_refused(replies);
        if !refused.is_empty() {
            let next = self.client.account(address_of(&self.wallet))?.next_nonce;
            refused.retain(|&index| submissions[index].transaction.unsigned.nonce < next);
        }
        Ok(refused)
    }

    fn join_again(&mut self, deadline: Instant) -> Result<(), CommandError> {
        self.progress.note("no node is left that answers: joining the network again");
        self.progress.say("joining the network again");
        loop {
            match join(self.args, self.network, self.addresses) {
                Ok(client) => {
                    self.client = client;
                    return Ok(());
                }
                Err(error) if Instant::now() >= deadline => return Err(error),
                Err(_) => thread::sleep(PAUSE),
            }
        }
    }

    /// Waits until tasks have so many confirmations or are over; `told` hears of the state after each round.
    pub(super) fn wait(
        &mut self,
        submissions: &[Submission],
        depth: u64,
        deadline: Instant,
        mut told: impl FnMut(&Progress, &[Tracked]),
    ) -> Result<Vec<Tracked>, CommandError> {
        self.wait_while(submissions, depth, deadline, |progress, states| {
            told(progress, states);
            true
        })
    }

    /// The same, as long as `told` says so.
    pub(super) fn wait_while(
        &mut self,
        submissions: &[Submission],
        depth: u64,
        deadline: Instant,
        mut told: impl FnMut(&Progress, &[Tracked]) -> bool,
    ) -> Result<Vec<Tracked>, CommandError> {
        self.progress.say("waiting for confirmations");
        let mut goes_on = true;
        loop {
            let (progress, said) = (&self.progress, &mut self.said);
            let left = deadline.saturating_duration_since(Instant::now());
            let states = self.client.wait_while(submissions, depth, left.min(LONELY), |states, incidents| {
                let mut is_new = |incident: &Incident| said.len() < MOST_SAID && said.insert(incident.clone());
                progress.tell_of(incidents.iter().filter(|(incident, _)| is_new(incident)));
                goes_on = told(progress, states);
                goes_on
            })?;
            if !goes_on || states.iter().all(|tracked| tracked.is_over) || Instant::now() >= deadline {
                return Ok(states);
            }
            if self.client.connections().is_empty() {
                self.join_again(deadline)?;
            }
        }
    }
}

/// Which tasks every node has refused for good, so that none of them has it.
pub(super) fn all_refused(replies: &[Vec<NodeReply>]) -> Vec<usize> {
    let is_refused = |reply: &NodeReply| matches!(reply.outcome, SubmitOutcome::Refused(_));
    let refused = replies.iter().enumerate().filter(|(_, said)| !said.is_empty() && said.iter().all(is_refused));
    refused.map(|(index, _)| index).collect()
}

/// A flag that Ctrl-C and other signals to stop set from here on; a Ctrl-C after it ends the program at once.
pub(super) fn stop_on_signal() -> Result<Arc<AtomicBool>, CommandError> {
    stop_flag().map_err(|error| CommandError::from(error).with_context("cannot listen for Ctrl-C"))
}

fn is_silent(outcome: &SubmitOutcome) -> bool {
    matches!(outcome, SubmitOutcome::Silent(_))
}
