//! One line at the bottom of the terminal that changes, and a log that is written above it.

use std::io::{self, IsTerminal as _, Write};
use std::sync::{Mutex, PoisonError};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The line that is there, so that the log knows of it.
static SHOWN: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// The line, until it is dropped. Where stderr is no terminal, nothing is shown.
#[derive(Debug)]
pub struct StatusLine(ProgressBar);

impl StatusLine {
    /// Shows a line, which is empty.
    pub fn show() -> Self {
        let target =
            if io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let style =
            ProgressStyle::with_template("{wide_msg}").expect("the template is a constant, and a test draws it");
        let line = ProgressBar::with_draw_target(None, target).with_style(style);
        *SHOWN.lock().unwrap_or_else(PoisonError::into_inner) = Some(line.clone());
        Self(line)
    }

    /// Whether anybody sees it.
    pub fn is_seen(&self) -> bool {
        !self.0.is_hidden()
    }

    /// Replaces what it says.
    pub fn say(&self, text: String) {
        self.0.set_message(text);
        self.0.tick();
    }
}

impl Drop for StatusLine {
    fn drop(&mut self) {
        SHOWN.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.0.finish_and_clear();
    }
}

/// stderr, above the line if there is one.
#[derive(Debug, Clone, Copy)]
pub struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let line = SHOWN.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match line {
            Some(line) => line.suspend(|| io::stderr().write(bytes)),
            None => io::stderr().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_draws_and_the_log_goes_on_after_it() {
        let line = StatusLine::show();
        line.say("block 7, synced".into());
        Stderr.write_all(b"").unwrap();
        drop(line);
        assert!(SHOWN.lock().unwrap().is_none());
        Stderr.write_all(b"").unwrap();
    }
}
