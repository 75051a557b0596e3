//! How far a command is: a bar on stderr, where that is a terminal.

use std::io::{self, IsTerminal as _, Write as _};

use indicatif::{ProgressBar, ProgressStyle};

use crate::client::confirmation::Incident;

/// A bar with the rate and the time that is left, where stderr is a terminal.
pub(in crate::commands) struct Progress(ProgressBar);

impl Progress {
    pub(in crate::commands) fn start(length: usize) -> Self {
        let bar = ProgressBar::new(length as u64);
        let style = ProgressStyle::with_template("{bar:30} {pos}/{len}  {per_sec}, {eta} left  {msg}")
            .expect("the template is a constant, and a test draws it");
        Self(bar.with_style(style))
    }

    /// Goes on where another run has ended: what that has done says nothing of how fast this one is.
    pub(in crate::commands) fn go_on_from(&self, done: usize) {
        self.0.set_position(done as u64);
        // Counted now, so that it is not counted with what comes next.
        self.0.tick();
        self.0.reset_eta();
    }

    pub(in crate::commands) fn say(&self, what: &'static str) {
        self.0.set_message(what);
        self.0.tick();
    }

    pub(in crate::commands) fn set(&self, done: usize) {
        self.0.set_position(done as u64);
    }

    /// Writes a line to stderr, above the bar. Without a stderr nobody is told, and the work goes on.
    pub(in crate::commands) fn note(&self, text: &str) {
        if io::stderr().is_terminal() {
            self.0.println(text);
        } else {
            drop(writeln!(io::stderr(), "{text}"));
        }
    }

    /// Says what has happened to transactions that are waited for.
    pub(in crate::commands) fn tell_of<'a>(&self, incidents: impl IntoIterator<Item = (&'a Incident, &'a usize)>) {
        for (incident, &count) in incidents {
            self.note(&incident.words(count));
        }
    }

    pub(in crate::commands) fn finish(&self) {
        self.0.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::thread;
    use std::time::{Duration, Instant};

    use indicatif::{ProgressDrawTarget, TermLike};

    use super::*;

    /// A terminal that keeps what is written.
    #[derive(Debug, Clone, Default)]
    struct Written(Arc<Mutex<String>>);

    impl TermLike for Written {
        fn width(&self) -> u16 {
            200
        }

        fn move_cursor_up(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_down(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }

        fn write_line(&self, text: &str) -> io::Result<()> {
            self.write_str(text)
        }

        fn write_str(&self, text: &str) -> io::Result<()> {
            self.0.lock().unwrap().push_str(text);
            Ok(())
        }

        fn clear_line(&self) -> io::Result<()> {
            Ok(())
        }

        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_bar_shows_the_rate_and_what_is_left() {
        let (progress, written) = (Progress::start(40), Written::default());
        progress.0.set_draw_target(ProgressDrawTarget::term_like(Box::new(written.clone())));
        progress.set(7);
        progress.say("waiting for confirmations");
        let drawn = written.0.lock().unwrap().clone();
        for part in [" 7/40  ", "/s, ", " left  waiting for confirmations"] {
            assert!(drawn.contains(part), "{part:?} in {drawn:?}");
        }
        progress.finish();
    }

    #[test]
    fn what_another_run_has_done_is_no_rate() {
        let progress = Progress::start(1_000);
        progress.go_on_from(900);
        let since = Instant::now();
        assert_eq!(progress.0.position(), 900);
        thread::sleep(Duration::from_millis(2));
        // One step since then, in at least this time.
        let least = since.elapsed().as_secs_f64();
        progress.set(901);
        progress.0.tick();
        assert!(progress.0.per_sec() <= 1.01 / least, "{}/s", progress.0.per_sec());
    }
}
