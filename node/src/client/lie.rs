//! What a node says that cannot be true.

use ocelli_consensus::merkle::MerkleError;
use ocelli_consensus::rules::AttachmentError;
use ocelli_consensus::state::ProofError;
use ocelli_consensus::{Amount, BlockHash, ModelId, RuleError, TxId, Work};

use super::{ClientError, Connection};

/// What a node says that cannot be true, or that others refute. Whoever says it is left.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Lie {
    /// Its chain begins with another block.
    #[error("its chain has the genesis {found}, expected {expected}")]
    Genesis {
        /// The node's.
        found: BlockHash,
        /// The network's.
        expected: BlockHash,
    },
    /// A header stands on nothing that was shown.
    #[error("its header at height {height} stands on {parent}, which is not on the chain that it shows")]
    Unlinked {
        /// The header's.
        height: u64,
        /// What it stands on.
        parent: BlockHash,
    },
    /// A header breaks a rule.
    #[error("its header at height {height} breaks a rule: {source}")]
    Header {
        /// The header's.
        height: u64,
        source: RuleError,
    },
    /// It says that its tip is one that its headers do not lead to.
    #[error(
        "it says that its tip is block {claimed}, and shows no headers that lead there: the last is that of block {shown}"
    )]
    Tip {
        claimed: u64,
        /// The last header that it shows.
        shown: u64,
    },
    /// It says that its tip has another time or state.
    #[error("it says that block {height} has another time or state root than its header")]
    TipFields {
        /// The tip's.
        height: u64,
    },
    /// It counts the work of its chain wrongly.
    #[error("it says that its chain has a work of {claimed} hashes, and its headers have {shown}")]
    Work {
        claimed: Work,
        /// Counted here.
        shown: Work,
    },
    /// Its chain has less work than the network is known to have.
    #[error("its chain has a work of {found} hashes, and the network's `minimum_work` is {expected}")]
    MinimumWork {
        /// Counted here.
        found: Work,
        /// By the network file.
        expected: Work,
    },
    /// Its chain is not the one with the most work.
    #[error(
        "its chain leaves that of {better} after block {fork} and has less work: {found} hashes, and that one {expected}"
    )]
    LessWork {
        /// Who shows a better one.
        better: String,
        /// The last block that both have.
        fork: u64,
        /// Counted here.
        found: Work,
        /// Of the better one.
        expected: Work,
    },
    /// It shows a block that its own chain does not hold.
    #[error("it shows block {block} as that of height {height}, which the headers that it shows do not hold")]
    Block {
        block: BlockHash,
        /// The height in the block's header.
        height: u64,
    },
    /// It shows another block than the one asked for.
    #[error("asked for {asked}, it shows block {block} at height {height}")]
    OtherBlock {
        /// What was asked for.
        asked: String,
        block: BlockHash,
        /// The height in the block's header.
        height: u64,
    },
    /// It shows another transaction than the one asked for.
    #[error("asked for transaction {asked}, it shows {found}")]
    OtherTransaction {
        /// What was asked for.
        asked: TxId,
        found: TxId,
    },
    /// The path from the transaction to the body's root is none.
    #[error("its path from the transaction to the block's header is none: {0}")]
    Path(MerkleError),
    /// A transaction or its block breaks a rule, or is not what the header binds.
    #[error("what it shows of block {height} breaks a rule: {source}")]
    Body {
        /// The block's.
        height: u64,
        source: RuleError,
    },
    /// The attachment is another one than the transaction's.
    #[error("what it shows of block {height} has another attachment: {source}")]
    Attachment {
        /// The block's.
        height: u64,
        /// What is wrong with it.
        source: AttachmentError,
    },
    /// A transaction that waits is not signed.
    #[error("it shows transaction {txid} with a signature that is none")]
    Unsigned { txid: TxId },
    /// A transaction that waits has another attachment than it names.
    #[error("it shows transaction {txid} with another attachment: {source}")]
    PendingAttachment {
        txid: TxId,
        /// What is wrong with it.
        source: AttachmentError,
    },
    /// What it shows as a model's file is another one's.
    #[error("it shows the file of model {found} as that of {asked}")]
    OtherFile {
        /// What was asked for.
        asked: ModelId,
        found: ModelId,
    },
    /// It lists models that are not in order.
    #[error("it lists models that are not in the order of their ids")]
    Order,
    /// What it says of an account is not so.
    #[error("what it says of the account is not what the state of block {height} holds: {source}")]
    Account {
        /// The block's.
        height: u64,
        /// What is wrong with the proof.
        source: ProofError,
    },
    /// It says that there is no account where there is one.
    #[error("it says at block {height} that there is no such account, which the state of block {since} holds")]
    NoAccount {
        /// Of which block it says so.
        height: u64,
        /// Of which block another node has shown the account.
        since: u64,
    },
    /// The next nonce is none that there can be.
    #[error("it says that the next nonce is {found}, expected {nonce} to {highest}")]
    NextNonce {
        found: u64,
        /// The account's.
        nonce: u64,
        /// With as many transactions in the mempool as one account may have there.
        highest: u64,
    },
    /// The entries of an account are not from the latest to the earliest.
    #[error("it shows what has happened to the account in another order than the chain's")]
    LedgerOrder,
    /// A block does something else to the account.
    #[error("what it says that block {height} does to the account is not what the block does")]
    LedgerEntry {
        /// The block's.
        height: u64,
    },
    /// What has happened to an account makes another balance.
    #[error(
        "what it says has happened to the account does not add up: the balance is {balance} credits, which leaves {found} grains \
         from nowhere"
    )]
    LedgerSum {
        /// The account's.
        balance: Amount,
        /// What would have been there before the first entry, in grains; as far as 64 bits reach.
        found: i64,
    },
    /// An account has sent more or fewer transactions.
    #[error("it shows {found} transactions of the account, which has sent {nonce}")]
    LedgerCount {
        /// Shown.
        found: u64,
        /// The account's nonce.
        nonce: u64,
    },
    /// What a faucet says that it pays is not what was claimed.
    #[error("its payment is {found}, expected {expected}")]
    Payment {
        /// What the transaction does.
        found: String,
        /// What was claimed.
        expected: String,
    },
}

impl Lie {
    /// Names who says it. That a header has another version is no lie: whoever shows it may be newer, as it has its work.
    pub(super) fn told_by(self, node: &Connection) -> ClientError {
        let address = node.address.clone();
        match self {
            Self::Header { source: RuleError::Version { found, expected, height }, .. } => {
                ClientError::OtherVersion { address, height, found, expected }
            }
            source => ClientError::Lie { address, source: source.into() },
        }
    }
}
