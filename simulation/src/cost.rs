//! What things cost that are not done here: bytes by `docs/protocol.md`, times by `docs/benchmarks.md`.

use ocelli_protocol::message::{Request, Response, Submission};

use crate::config::Task;

/// Bytes of a header.
pub const HEADER: u64 = 180;
/// Bytes of an answer of five classes, with its kind.
pub const ANSWER: u64 = 71;
/// Bytes of one task in a list, beside its transaction and its attachment: three lengths.
const LENGTHS: u64 = 24;
/// Bytes that a message costs beside itself: TCP and IP headers, Noise, Yamux, the request's own framing. A guess.
pub const FRAMING: u64 = 150;
/// Bytes that TCP sends at first without an answer: ten segments (RFC 6928), again after each pause (RFC 5681, 4.1).
pub const FIRST_WINDOW: u64 = 10 * 1_460;

/// Bytes of one task as it is relayed, or asked for with a block.
pub fn submission(task: &Task) -> u64 {
    1 + LENGTHS + task.transaction + task.attachment
}

/// Bytes of one task in a whole block.
pub fn whole_task(task: &Task) -> u64 {
    LENGTHS + task.transaction + task.attachment + ANSWER
}

/// Microseconds to check an announcement's header and body root: a hash of all its ids, and their parsing; then to find what has
/// these ids.
pub fn check_announcement(tasks: u64) -> u64 {
    200 + tasks
}

/// Microseconds to validate and connect a block: of a task of which nothing is known its signature and its model's run, which are
/// done before for tasks that are here.
pub fn validate(task: &Task, tasks: u64, missing: u64) -> u64 {
    2_000 + task.known_micros * (tasks - missing) + task.unknown_micros * missing
}

/// Bytes of an announcement.
pub fn announcement(tasks: u64) -> u64 {
    HEADER + 32 + 32 + 8 + 8 * tasks
}

/// Bytes of a request.
pub fn request(request: &Request) -> u64 {
    request.to_bytes().len() as u64
}

/// Bytes of a response with such tasks, given those of the blocks in it.
pub fn response(response: &Response, task: &Task, blocks: u64) -> u64 {
    let of = |found: &Submission| submission(task) - found.attachment.as_ref().map_or(task.attachment, |_| 0);
    let list = |found: &[Option<Submission>]| 12 + found.len() as u64 + found.iter().flatten().map(of).sum::<u64>();
    match response {
        Response::Blocks(found) => 12 + found.len() as u64 + blocks,
        Response::Pending(found) | Response::Transactions(found) => list(found),
        Response::Attachments(found) => {
            12 + found.iter().map(|found| found.as_ref().map_or(1, |_| 9 + task.attachment)).sum::<u64>()
        }
        other => other.to_bytes().len() as u64,
    }
}

/// Round trips that a message waits for beside the one way: TCP's window doubles with each.
pub fn round_trips(bytes: u64) -> u64 {
    let windows = bytes.div_ceil(FIRST_WINDOW).max(1);
    u64::from((windows + 1).next_power_of_two().ilog2()) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_double() {
        // After r round trips 1, 3, 7, 15 windows have gone out.
        for (windows, expected) in [(0, 0), (1, 0), (2, 1), (3, 1), (4, 2), (7, 2), (8, 3), (15, 3)] {
            assert_eq!(round_trips(windows * FIRST_WINDOW), expected, "{windows} windows");
        }
    }
}
