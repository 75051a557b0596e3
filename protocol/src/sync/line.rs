//! What our own line takes: how many requests for blocks at a time, and how long an honest peer's blocks may take over it.

/// Requests for blocks under way in all: what their responses may hold in memory.
pub const MAX_BLOCK_REQUESTS: usize = 8;
/// Milliseconds after which blocks that a peer has not sent are asked of another too, at first.
pub const FIRST_STALL_TIMEOUT: u64 = 2_000;
/// The fewest that these become.
pub const MIN_STALL_TIMEOUT: u64 = 500;
/// The most that these become.
pub const MAX_STALL_TIMEOUT: u64 = 30_000;

/// Adapts to what comes and what does not.
#[derive(Debug)]
pub(super) struct Line {
    /// At most [`MAX_BLOCK_REQUESTS`]: as many as get through in time.
    requests: usize,
    /// Milliseconds after which blocks are overdue that were asked of a peer which has brought some: more whenever they come after
    /// another was asked for them too, so that a slow line of our own does not double all traffic, and less as blocks come.
    stall_timeout: u64,
    /// When blocks last came.
    came_at: u64,
}

impl Line {
    pub(super) fn new() -> Self {
        Self { requests: MAX_BLOCK_REQUESTS, stall_timeout: FIRST_STALL_TIMEOUT, came_at: 0 }
    }

    /// Requests for blocks that it takes at a time.
    pub(super) fn requests(&self) -> usize {
        self.requests
    }

    pub(super) fn stall_timeout(&self) -> u64 {
        self.stall_timeout
    }

    /// Blocks have come.
    pub(super) fn on_blocks(&mut self, now: u64) {
        self.requests = (self.requests + 1).min(MAX_BLOCK_REQUESTS);
        self.stall_timeout = (self.stall_timeout * 17 / 20).max(MIN_STALL_TIMEOUT);
        self.came_at = now;
    }

    /// Blocks have come, though so late that another was asked for them as well.
    pub(super) fn on_overtaken(&mut self) {
        self.stall_timeout = (2 * self.stall_timeout).min(MAX_STALL_TIMEOUT);
    }

    /// Blocks asked for at `since` have not come in time. If none has come from anybody meanwhile, it may be this line.
    pub(super) fn on_timeout(&mut self, since: u64) {
        if self.came_at <= since {
            self.requests = (self.requests / 2).max(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_halve_while_nothing_comes_and_grow_one_by_one() {
        let mut line = Line::new();
        line.on_blocks(100);
        line.on_timeout(50);
        assert_eq!(line.requests(), MAX_BLOCK_REQUESTS, "others brought some meanwhile");
        let halved: Vec<usize> = (0..5)
            .map(|_| {
                line.on_timeout(100);
                line.requests()
            })
            .collect();
        assert_eq!(halved, [4, 2, 1, 1, 1]);
        (0..20).for_each(|_| line.on_blocks(200));
        assert_eq!(line.requests(), MAX_BLOCK_REQUESTS);
    }

    #[test]
    fn patience_doubles_when_the_late_come_after_all() {
        let mut line = Line::new();
        line.on_overtaken();
        assert_eq!(line.stall_timeout(), 2 * FIRST_STALL_TIMEOUT);
        line.on_blocks(1);
        assert_eq!(line.stall_timeout(), 2 * FIRST_STALL_TIMEOUT * 17 / 20);
        (0..100).for_each(|_| line.on_blocks(1));
        assert_eq!(line.stall_timeout(), MIN_STALL_TIMEOUT);
        (0..100).for_each(|_| line.on_overtaken());
        assert_eq!(line.stall_timeout(), MAX_STALL_TIMEOUT);
    }
}
