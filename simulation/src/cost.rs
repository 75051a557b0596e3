//! What things cost that are not done here: bytes by `docs/protocol.md`, times by `docs/benchmarks.md`.

use ocelli_protocol::message::{Request, Response};

/// Bytes of a header.
pub const HEADER: u64 = 180;
/// Bytes of one task in an announcement: wtxid, and an output of ten logits, four bytes each, as `docs/scaling.md` was made with.
/// Of the reference model, these take about 2.4 bytes each by now.
pub const ANNOUNCED_TASK: u64 = 32 + 1 + 8 + 40;
/// Bytes of one task with its output and its 3,072 pixels.
pub const WHOLE_TASK: u64 = 188 + 1 + 8 + 40 + 1 + 8 + 3_072;
/// Bytes of one task as it is relayed, pixels included.
pub const SUBMISSION: u64 = 1 + 188 + 1 + 8 + 3_072;
/// Bytes that a message costs beside itself: TCP and IP headers, Noise, Yamux, the request's own framing. A guess.
pub const FRAMING: u64 = 150;
/// Bytes that TCP sends at first without an answer: ten segments (RFC 6928), again after each pause (RFC 5681, 4.1).
pub const FIRST_WINDOW: u64 = 10 * 1_460;

/// Microseconds to check an announcement's header and body root: two SHA-256 compressions an entry and its parsing.
pub fn check_announcement(tasks: u64) -> u64 {
    200 + tasks
}

/// Microseconds to validate and connect a block: measured are 100 a task of which nothing is known, on two cores, of which
/// 50 are its signature and 25 the model's run; these two are done before for tasks that are here.
pub fn validate(tasks: u64, missing: u64) -> u64 {
    2_000 + 25 * (tasks - missing) + 100 * missing
}

/// Bytes of an announcement with so many for each task.
pub fn announcement(tasks: u64, bytes: u64) -> u64 {
    HEADER + 8 + tasks * bytes
}

/// Bytes of a request.
pub fn request(request: &Request) -> u64 {
    let length = match request {
        Request::Headers { locator, .. } => 16 + 32 * locator.len(),
        Request::Blocks { hashes } => 12 + 32 * hashes.len(),
        Request::Announce { ids } | Request::Pending { ids } => 12 + 8 * ids.len(),
        _ => 4,
    };
    length as u64
}

/// Bytes of a response, given those of the blocks or tasks in it.
pub fn response(response: &Response, content: u64) -> u64 {
    match response {
        Response::Headers(headers) => 12 + HEADER * headers.len() as u64,
        Response::Blocks(found) => 12 + 9 * found.len() as u64 + content,
        Response::Pending(_) => 12 + content,
        Response::Status(_) => 4 + 32 + 8 + 32 + 32,
        _ => 4,
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
