/// What a peer did that an honest one does not, or seldom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offence {
    /// It is on a network of another genesis.
    WrongNetwork,
    /// A response to another question, with more or less than was asked for, or that is no encoding of one.
    WrongResponse,
    /// No response in time. It may only be slow.
    Stalled,
    /// More headers than asked for.
    TooManyHeaders { found: usize, limit: usize },
    /// A header's parent is not the one before it.
    UnlinkedHeaders,
    /// Headers that do not connect, twice, though the locator ends in genesis.
    UnconnectedHeaders,
    /// A header that breaks a rule.
    InvalidHeader,
    /// Work claimed twice and not shown.
    UnprovenWork,
    /// More blocks than asked for.
    TooManyBlocks { found: usize, limit: usize },
    /// A response with not even one block.
    NoBlocks,
    /// An announced header's hash does not meet the header's own target.
    NoWork,
    /// An announcement's body root is not its header's.
    BodyRoot,
    /// Another transaction than was asked for, another attachment with it, or ids that are not the block's.
    WrongTransaction,
    /// An attachment that is not the one that the transaction names, or that nobody asked for.
    WrongAttachment,
    /// It does not have what it announced. It may have lost it since, to a block or to want of room.
    Unserved,
    /// A transaction that breaks a rule which every forwarder checks.
    BrokenTransaction,
    /// The file that it sent has another id.
    WrongFile,
}
