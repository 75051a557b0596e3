//! Why there is no answer.

use std::io;

use ocelli_consensus::BlockHash;
use ocelli_consensus::codec::DecodeError;

use super::lie::Lie;
use crate::network::{DialFailure, NetworkError, RequestFailure};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The client was given no network.
    #[error("no network to join")]
    NoNetwork,
    /// The client was given no address.
    #[error("no address of a node to ask")]
    NoAddress,
    /// Nobody can be reached.
    #[error("nobody answers at {}{}", addresses.join(", "), reasons(failures))]
    Unreachable {
        /// What was tried.
        addresses: Vec<String>,
        /// What came of it, as far as anything did.
        failures: Vec<(String, DialFailure)>,
    },
    /// All nodes have gone.
    #[error("the connection to the last node is closed")]
    Alone,
    /// A node says what cannot be true.
    #[error("the node at {address} cannot be believed: {source}")]
    Lie {
        /// Where the node is.
        address: String,
        source: Box<Lie>,
    },
    /// What was read of one branch does not fit what was read of another.
    #[error("the chain moved whenever the account's history was read from the node at {address}")]
    Unsteady {
        /// Where the node is.
        address: String,
    },
    /// More has happened to an account than is read at once.
    #[error("more than {limit} things have happened to the account")]
    TooMuch { limit: usize },
    /// A node's chain follows rules that this program does not know.
    #[error(
        "the chain of the node at {address} follows version {found} of the rules from block {height} on, expected {expected}"
    )]
    OtherVersion {
        /// Where the node is.
        address: String,
        /// The first header of that version.
        height: u64,
        /// The header's.
        found: u32,
        /// By the schedule.
        expected: u32,
    },
    /// Nobody is connected any more whom one can believe.
    #[error("no node is left that can be believed: {}", left.join("; "))]
    NoneLeft {
        /// Who was left, and why.
        left: Vec<String>,
    },
    /// Nodes say different things, and which of them is right cannot be checked here.
    #[error("the nodes disagree, and who is right cannot be checked: {}", says.join("; "))]
    Disagreement {
        /// What each says.
        says: Vec<String>,
    },
    /// Nodes are on different chains that are too long to be compared.
    #[error(
        "the node at {address} has another block at height {height} than {block}, which another node shows; the chain is too \
         long to tell which of them has more work"
    )]
    OtherChain {
        /// Who has another block.
        address: String,
        height: u64,
        /// What was shown.
        block: BlockHash,
    },
    /// The node does not answer in time.
    #[error("the node at {address} has not answered within {seconds} s")]
    TimedOut {
        /// Where the node is.
        address: String,
        /// How long we waited.
        seconds: u64,
    },
    /// The node does not answer.
    #[error("the node at {address} does not answer")]
    NoAnswer {
        /// Where the node is.
        address: String,
        source: RequestFailure,
    },
    /// The node answers something that is no response.
    #[error("the response of the node at {address} does not decode")]
    Malformed {
        /// Where the node is.
        address: String,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// The node answers another question.
    #[error("the node at {address} answers {question} with {kind}")]
    Unexpected {
        /// Where the node is.
        address: String,
        /// What was asked.
        question: &'static str,
        kind: String,
    },
    /// The node says that it cannot.
    #[error("the node at {address} cannot answer: {reason}")]
    Failed {
        /// Where the node is.
        address: String,
        /// Its words.
        reason: String,
    },
    /// No node takes the transaction.
    #[error("no node takes the transaction: {}", reasons.join("; "))]
    Refused {
        /// What each said.
        reasons: Vec<String>,
    },
    /// The network does not start.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The system gives no timer or random numbers.
    #[error("the system does not give what a client needs")]
    Runtime { source: io::Error },
}

impl ClientError {
    /// Whether a node has said what cannot be true or what is no answer, rather than nothing.
    pub fn is_lie(&self) -> bool {
        matches!(self, Self::Lie { .. } | Self::Malformed { .. } | Self::Unexpected { .. })
    }

    /// Whether an honest node may have said it that has changed to another branch between two answers.
    pub(super) fn may_be_a_reorg(&self) -> bool {
        let Self::Lie { source, .. } = self else { return false };
        matches!(**source, Lie::Block { .. } | Lie::Unlinked { .. } | Lie::Tip { .. })
    }

    /// What to try next.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Unreachable { failures, .. }
                if failures.iter().any(|(_, reason)| matches!(reason, DialFailure::OtherNetwork { .. })) =>
            {
                Some("name the node's network with --network NAME or --network FILE, or ask a node of this network")
            }
            Self::Unreachable { failures, .. }
                if failures.iter().any(|(_, reason)| matches!(reason, DialFailure::WrongPeer { .. })) =>
            {
                Some("leave out /p2p/… at the end of the address, or ask the node's owner for the new one")
            }
            Self::Unreachable { failures, .. } if !failures.is_empty() => {
                failures.last().map(|(_, reason)| reason.advice())
            }
            Self::NoAddress | Self::Unreachable { .. } => {
                Some("check that the node runs and that the address and port are right, or try another node")
            }
            Self::Lie { .. } | Self::NoneLeft { .. } => {
                Some("ask other nodes with --peer, or run a node of your own, which checks all by itself")
            }
            Self::Unsteady { .. } => Some("try again in a while"),
            Self::TooMuch { .. } => Some("ask for what is later than a day with --since"),
            Self::OtherVersion { .. } => {
                Some("update this program, or give it the network file that says when the rules change")
            }
            Self::Disagreement { .. } | Self::OtherChain { .. } => {
                Some("ask only nodes that you trust with --peer, or run a node of your own, which checks all by itself")
            }
            Self::Alone | Self::TimedOut { .. } | Self::NoAnswer { .. } | Self::Failed { .. } => {
                Some("try again, or ask another node with --peer")
            }
            Self::Malformed { .. } | Self::Unexpected { .. } => {
                Some("update the older of the two programs, or ask another node with --peer")
            }
            Self::NoNetwork | Self::Refused { .. } | Self::Network(_) | Self::Runtime { .. } => None,
        }
    }
}

fn reasons(failures: &[(String, DialFailure)]) -> String {
    match failures {
        [] => ": no answer in time".into(),
        [(_, reason)] => format!(": {reason}"),
        many => many.iter().map(|(address, reason)| format!("; {address}: {reason}")).collect(),
    }
}
