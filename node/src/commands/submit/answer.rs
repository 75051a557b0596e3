//! What is said of a picture that was asked about.

use ocelli_consensus::block::Classes;
use ocelli_consensus::{Action, Amount, AttachmentHash};
use ocelli_model::Model;
use ocelli_protocol::message::Submission;
use serde::Serialize;

use super::super::error::CommandError;
use super::super::evidence;
use super::super::network_model::named;
use super::super::output::{Printer, Whole};
use super::{Picture, Progress};
use crate::client::confirmation::Confirmed;
use crate::client::submission::{NodeReply, SubmitOutcome};
use crate::network::Group;

/// What is printed of one picture; as JSON one object without others in it.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    #[serde(flatten)]
    sent: Sent,
    #[serde(flatten)]
    own: Own,
    #[serde(flatten)]
    told: Told,
    #[serde(flatten)]
    task: Task,
}

/// The file, and what was made of it.
#[derive(Debug, Serialize)]
struct Sent {
    file: String,
    /// Of the file, whatever was done to it.
    file_sha256: String,
    /// Of what was sent.
    sent_sha256: String,
    /// What was done to the file, for people.
    sent_as: String,
    /// Names what was sent in the chain.
    attachment: String,
    /// Bytes of what was sent.
    bytes: usize,
}

/// What this machine itself says.
#[derive(Debug, Serialize)]
struct Own {
    label: String,
    /// Of the label, 0 to 1, rounded to 6 decimals: for display.
    probability: f64,
    logits: Vec<i32>,
    /// Of these logits, as a block holds it.
    digest: String,
    /// Its author's name for it, which others may have as well.
    model: String,
    /// In hexadecimal.
    model_id: String,
    /// Both, for people.
    #[serde(skip)]
    named: String,
}

/// What others say.
#[derive(Debug, Serialize)]
struct Told {
    /// Nodes that answered.
    answers: usize,
    /// Address groups that these nodes are in; all that run on this machine are one.
    groups: usize,
    /// Nodes that answered and run on this machine.
    local_answers: usize,
    /// Whether all that is known, the confirmed answer included, equals this machine's own run.
    identical: bool,
    /// From handing it in to the first preliminary answer.
    latency_ms: Option<f64>,
    /// Who said something else than this machine's own run, and what.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    different: Vec<Different>,
}

/// The transaction, and where it is.
#[derive(Debug, Serialize)]
struct Task {
    txid: String,
    fee: Whole,
    royalty: Whole,
    height: Option<u64>,
    confirmations: u64,
    /// Of the block and those on it, in hexadecimal.
    work: Option<String>,
    /// The lowest height from which on headers were checked.
    checked_from: Option<u64>,
    /// Nodes whose chains hold the block.
    nodes: usize,
}

#[derive(Debug, Serialize)]
struct Different {
    source: String,
    /// The best classes with their logits; none where there is no answer.
    best: Option<Vec<(u16, i32)>>,
}

impl Different {
    fn of(source: String, answer: Option<&Classes>) -> Self {
        Self { source, best: answer.map(|classes| classes.best.clone()) }
    }
}

impl Answer {
    /// Puts together what the nodes said of one picture.
    ///
    /// # Errors
    /// If none of them takes it.
    pub(super) fn of(
        picture: &Picture,
        submission: &Submission,
        replies: &[NodeReply],
        model: &Model,
        progress: &Progress,
    ) -> Result<Self, CommandError> {
        let problems: Vec<_> = replies
            .iter()
            .filter_map(|reply| reply.outcome.problem().map(|problem| format!("{}: {problem}", reply.address)))
            .collect();
        if problems.len() == replies.len() {
            let txid = submission.transaction.txid();
            return Err(CommandError::failed(format!("no node takes {}, transaction {txid}", picture.file))
                .with_causes(problems)
                .with_hint("try again; if a fee is too low, offer more with --fee"));
        }
        for problem in &problems {
            progress.note(&format!("warning: {}: {problem}", picture.file));
        }
        let own = picture.classes();
        let task = Task::of(submission);
        Ok(Self { sent: Sent::of(picture), told: Told::of(replies, &own), own: Own::of(picture, &own, model), task })
    }

    /// Whether it is in a block.
    pub(super) fn is_confirmed(&self) -> bool {
        self.task.height.is_some()
    }

    pub(super) fn confirm(&mut self, confirmed: &Confirmed) {
        let (height, evidence) = (confirmed.header.height, &confirmed.evidence);
        let task = &mut self.task;
        (task.height, task.confirmations, task.nodes) = (Some(height), evidence.confirmations, evidence.nodes);
        (task.work, task.checked_from) = (Some(format!("{:#x}", evidence.work.0)), Some(evidence.checked_from));
        let found = confirmed.answer.classes();
        if found != Some(&Classes::of(&self.own.logits)) {
            self.told.identical = false;
            self.told.different.push(Different::of(format!("block {height}"), found));
        }
    }
}

impl Sent {
    fn of(Picture { file, attachment, .. }: &Picture) -> Self {
        Self {
            file: file.clone(),
            file_sha256: hex::encode(attachment.file_hash),
            sent_sha256: hex::encode(attachment.sent_hash),
            sent_as: attachment.done.to_string(),
            attachment: AttachmentHash::of(&attachment.bytes).to_string(),
            bytes: attachment.bytes.len(),
        }
    }
}

impl Own {
    fn of(Picture { logits, .. }: &Picture, classes: &Classes, model: &Model) -> Self {
        let label = model.label(logits);
        let probability = model.probabilities(logits).get(label).copied().unwrap_or_default();
        Self {
            label: model.classes().get(label).cloned().unwrap_or_else(|| label.to_string()),
            probability: (probability * 1e6).round() / 1e6,
            logits: logits.clone(),
            digest: classes.digest.to_string(),
            model: model.name().to_owned(),
            model_id: model.id().to_string(),
            named: named(model),
        }
    }
}

impl Told {
    fn of(replies: &[NodeReply], own: &Classes) -> Self {
        let answered: Vec<_> = replies
            .iter()
            .filter_map(|reply| match &reply.outcome {
                SubmitOutcome::Answered(classes) => Some((reply, classes)),
                _ => None,
            })
            .collect();
        let different: Vec<_> = answered
            .iter()
            .filter(|(_, classes)| *classes != own)
            .map(|(reply, classes)| Different::of(reply.address.clone(), Some(classes)))
            .collect();
        let addresses = || answered.iter().map(|(reply, _)| reply.address.as_str());
        let sent = replies.iter().map(|reply| reply.sent).min();
        let received = answered.iter().map(|(reply, _)| reply.received).min();
        let latency = sent.zip(received).map(|(sent, received)| received.saturating_duration_since(sent));
        Self {
            answers: answered.len(),
            groups: Group::count_answers(addresses()),
            local_answers: addresses().filter(|address| Group::is_this_machine(address)).count(),
            identical: different.is_empty(),
            latency_ms: latency.map(|latency| (latency.as_secs_f64() * 1e6).round() / 1e3),
            different,
        }
    }

    /// Who answered, and whether it is what this machine computes. Many nodes of one owner are cheap, so their groups count.
    fn who(&self) -> String {
        let &Self { answers, groups, local_answers, identical, .. } = self;
        let nodes = if answers == 1 { "1 node".into() } else { format!("{answers} nodes") };
        let who = match (answers, local_answers) {
            (0, _) if identical => return "no preliminary answer".into(),
            (0, _) => "the chain".into(),
            (all, local) if all == local => format!("{nodes} of this machine"),
            (1, _) => nodes,
            (_, 0) => format!("{nodes} in {}", address_groups(groups)),
            (_, local) => format!("{nodes} in {} ({local} on this machine)", address_groups(groups)),
        };
        let agreement = if identical { "the same as" } else { "DIFFERENT from" };
        format!("{who} answered, {agreement} this machine's own run")
    }
}

impl Task {
    fn of(submission: &Submission) -> Self {
        let unsigned = &submission.transaction.unsigned;
        let royalty = if let Action::Classify { royalty, .. } = unsigned.action { royalty } else { Amount::ZERO };
        Self {
            txid: submission.transaction.txid().to_string(),
            fee: Whole(unsigned.fee.0),
            royalty: Whole(royalty.0),
            height: None,
            confirmations: 0,
            work: None,
            checked_from: None,
            nodes: 0,
        }
    }

    /// Where it is confirmed, for people.
    fn standing(&self) -> String {
        let (Some(height), Some(checked_from)) = (self.height, self.checked_from) else { return "unconfirmed".into() };
        let node = if self.nodes == 1 { "node" } else { "nodes" };
        let confirmations = evidence::confirmations(self.confirmations);
        let unchecked = if checked_from == 0 { "" } else { ", the chain before it not checked" };
        format!("block {height}, {confirmations} shown by {} {node}{unchecked}", self.nodes)
    }
}

pub(super) fn print(answers: &[Answer], output: &mut Printer) -> Result<(), CommandError> {
    if output.is_json() {
        return output.json(&answers);
    }
    let widest =
        |text: fn(&Answer) -> &str| answers.iter().map(|answer| text(answer).chars().count()).max().unwrap_or(0);
    let (files, labels) = (widest(|answer| &answer.sent.file), widest(|answer| &answer.own.label));
    for Answer { sent, own, told, task } in answers {
        output.line(format_args!(
            "{:<files$}  {:<labels$} {:>5.1} %  {}; {}; {}",
            sent.file,
            own.label,
            own.probability * 100.0,
            told.who(),
            task.standing(),
            task.txid
        ))?;
        output.line(format_args!(
            "{:<files$}  by {}; sent as {}, {} bytes; SHA-256 of the file {}, of what was sent {}",
            "", own.named, sent.sent_as, sent.bytes, sent.file_sha256, sent.sent_sha256
        ))?;
    }
    Ok(())
}

fn address_groups(count: usize) -> String {
    if count == 1 { "1 address group".into() } else { format!("{count} address groups") }
}

/// Fails loudly if anybody says something else than this machine's own run.
pub(super) fn check_identical(answers: &[Answer]) -> Result<(), CommandError> {
    let differences: Vec<_> = answers
        .iter()
        .flat_map(|Answer { sent, own, told, .. }| {
            let best = Classes::of(&own.logits).best;
            told.different.iter().map(move |different| match &different.best {
                Some(found) => format!("{}: {} says {found:?}, this machine {best:?}", sent.file, different.source),
                None => format!("{}: {} holds no answer", sent.file, different.source),
            })
        })
        .collect();
    if differences.is_empty() {
        return Ok(());
    }
    Err(CommandError::failed(format!("ANSWERS DIFFER: {} are not what this machine computes", differences.len()))
        .with_causes(differences)
        .with_hint(
            "one of the two computes wrongly or lies, and every run of a model must give the same bits: compare with \
             another machine, and report it",
        ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(answers: usize, groups: usize, local_answers: usize, identical: bool) -> Told {
        Told { answers, groups, local_answers, identical, latency_ms: None, different: Vec::new() }
    }

    #[test]
    fn who_answered_is_said_as_it_is() {
        for (answers, groups, local_answers, identical, expected) in [
            (0, 0, 0, true, "no preliminary answer"),
            (0, 0, 0, false, "the chain answered, DIFFERENT from this machine's own run"),
            (1, 1, 0, true, "1 node answered, the same as this machine's own run"),
            (1, 1, 1, true, "1 node of this machine answered, the same as this machine's own run"),
            (3, 1, 3, true, "3 nodes of this machine answered, the same as this machine's own run"),
            (3, 1, 0, true, "3 nodes in 1 address group answered, the same as this machine's own run"),
            (3, 2, 0, false, "3 nodes in 2 address groups answered, DIFFERENT from this machine's own run"),
            (
                3,
                2,
                2,
                true,
                "3 nodes in 2 address groups (2 on this machine) answered, the same as this machine's own run",
            ),
        ] {
            assert_eq!(told(answers, groups, local_answers, identical).who(), expected);
        }
    }

    #[test]
    fn a_difference_is_loud() {
        let mut answer = Answer {
            sent: Sent {
                file: "cat.png".into(),
                file_sha256: String::new(),
                sent_sha256: String::new(),
                sent_as: "the file as it is".into(),
                attachment: String::new(),
                bytes: 1,
            },
            own: Own {
                label: "cat".into(),
                probability: 0.5,
                logits: vec![1, 2],
                digest: String::new(),
                model: "m".into(),
                model_id: String::new(),
                named: String::new(),
            },
            told: told(1, 1, 0, true),
            task: Task {
                txid: String::new(),
                fee: Whole(1),
                royalty: Whole(0),
                height: None,
                confirmations: 0,
                work: None,
                checked_from: None,
                nodes: 0,
            },
        };
        assert!(check_identical(std::slice::from_ref(&answer)).is_ok());
        let source = "/ip4/127.0.0.1/tcp/1".into();
        answer.told.different.push(Different { source, best: Some(vec![(1, 3), (0, 1)]) });
        let text = check_identical(&[answer]).unwrap_err().to_string();
        assert!(
            text.contains("cat.png: /ip4/127.0.0.1/tcp/1 says [(1, 3), (0, 1)], this machine [(1, 2), (0, 1)]"),
            "{text}"
        );
    }
}
