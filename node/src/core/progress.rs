//! How far a sync is, for people.

use std::time::{Duration, Instant};

/// How often it is told.
const INTERVAL: Duration = Duration::from_secs(2);

/// Counts what has been connected since it was last told. Reads no clock.
pub(super) struct Progress {
    told_at: Instant,
    blocks: u64,
    tasks: u64,
    height: u64,
    all_tasks: u64,
}

impl Progress {
    pub(super) fn new(now: Instant) -> Self {
        Self { told_at: now, blocks: 0, tasks: 0, height: 0, all_tasks: 0 }
    }

    /// A block far from the best header was connected.
    pub(super) fn connected(&mut self, height: u64, tasks: u64) {
        self.blocks += 1;
        self.tasks += tasks;
        self.all_tasks += tasks;
        self.height = height;
    }

    /// What to say when it is time: blocks, tasks, rate and time left.
    pub(super) fn text(&mut self, best: u64, now: Instant) -> Option<String> {
        let seconds = now.saturating_duration_since(self.told_at);
        if self.blocks == 0 || seconds < INTERVAL {
            return None;
        }
        let rate = |count: u64| count as f64 / seconds.as_secs_f64();
        let left = Duration::from_secs((best.saturating_sub(self.height) as f64 / rate(self.blocks)) as u64);
        let text = format!(
            "sync: block {} of {best}, {} tasks checked, {:.0} blocks/s, {:.0} tasks/s, {} left",
            self.height,
            self.all_tasks,
            rate(self.blocks),
            rate(self.tasks),
            in_words(left),
        );
        *self = Self { told_at: now, blocks: 0, tasks: 0, ..*self };
        Some(text)
    }
}

fn in_words(time: Duration) -> String {
    let seconds = time.as_secs();
    match (seconds / 3600, seconds / 60 % 60) {
        (0, 0) => format!("{seconds} s"),
        (0, minutes) => format!("{minutes} min {} s", seconds % 60),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn told_every_two_seconds() {
        let start = Instant::now();
        let mut progress = Progress::new(start);
        assert_eq!(progress.text(1000, start + INTERVAL), None, "nothing has happened");
        for height in 1..=100 {
            progress.connected(height, 10);
        }
        assert_eq!(progress.text(1000, start + Duration::from_secs(1)), None);
        let text = progress.text(1000, start + Duration::from_secs(4)).expect("it is time");
        assert_eq!(text, "sync: block 100 of 1000, 1000 tasks checked, 25 blocks/s, 250 tasks/s, 36 s left");
        progress.connected(101, 5);
        let text = progress.text(10_101, start + Duration::from_secs(6)).expect("it is time");
        assert_eq!(text, "sync: block 101 of 10101, 1005 tasks checked, 0 blocks/s, 2 tasks/s, 5 h 33 min left");
    }
}
