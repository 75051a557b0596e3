//! Signals: those that ask the program to stop, and the one that a limit on the size of files sends.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
#[cfg(unix)]
use std::task::Poll;

/// What asked the program to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// SIGINT: Ctrl-C.
    Interrupt,
    /// SIGTERM: a service manager, a shutdown, `kill`.
    Terminate,
    /// SIGHUP: the terminal is gone.
    HangUp,
}

/// Listens for what asks the program to stop.
///
/// SIGINT and SIGHUP stay ignored where whoever started the program had it ignore them, as `nohup` does SIGHUP and shells do
/// SIGINT for what scripts put into the background. That is read from Linux's `/proc`; other systems do not tell it to a
/// program without unsafe code, and there the program listens to all.
#[derive(Debug)]
pub struct StopSignals {
    #[cfg(unix)]
    signals: Vec<(Stop, tokio::signal::unix::Signal)>,
}

#[cfg(unix)]
impl StopSignals {
    /// Begins to listen, within a tokio runtime: from here on these signals do not end the program by themselves.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let ignored = std::fs::read_to_string("/proc/self/status").map_or(0, |status| ignored(&status));
        let kinds = [
            (Stop::Interrupt, SignalKind::interrupt()),
            (Stop::Terminate, SignalKind::terminate()),
            (Stop::HangUp, SignalKind::hangup()),
        ];
        let is_ignored = |kind: SignalKind| (ignored >> (kind.as_raw_value() - 1)) & 1 == 1;
        let heard = kinds.into_iter().filter(|(stop, kind)| *stop == Stop::Terminate || !is_ignored(*kind));
        let signals = heard.map(|(stop, kind)| Ok((stop, signal(kind)?))).collect::<io::Result<_>>()?;
        Ok(Self { signals })
    }

    /// The next of them.
    pub async fn next(&mut self) -> Stop {
        std::future::poll_fn(|context| {
            let mut signals = self.signals.iter_mut();
            let stop = signals.find_map(|(stop, signal)| signal.poll_recv(context).is_ready().then_some(*stop));
            stop.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

#[cfg(not(unix))]
impl StopSignals {
    /// Begins to listen for Ctrl-C.
    ///
    /// # Errors
    /// None here.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {})
    }

    /// The next Ctrl-C.
    pub async fn next(&mut self) -> Stop {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        Stop::Interrupt
    }
}

/// A flag that the first signal to stop sets; a Ctrl-C after it ends the program at once.
///
/// A second SIGTERM or SIGHUP is no impatience: `timeout` and terminals that close send theirs twice.
///
/// # Errors
/// If the system refuses.
pub fn stop_flag() -> io::Result<Arc<AtomicBool>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let mut signals = runtime.block_on(async { StopSignals::listen() })?;
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            loop {
                if signals.next().await == Stop::Interrupt && flag.load(Ordering::Relaxed) {
                    // As the shell names a program that SIGINT has ended.
                    std::process::exit(130);
                }
                flag.store(true, Ordering::Relaxed);
            }
        });
    })?;
    Ok(stop)
}

/// The signals that a process ignores, bit 0 for signal 1, from its `/proc/PID/status` (proc_pid_status(5)).
#[cfg(unix)]
fn ignored(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

/// Lets a write beyond the limit on the size of files (`ulimit -f`) fail, as on a full disk, rather than end the program.
///
/// # Errors
/// If the system refuses.
#[cfg(unix)]
pub fn survive_file_size_limit() -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    // A signal that is listened to does not end the program, whether anybody looks or not.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let _entered = runtime.enter();
    signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw())).map(drop)
}

/// Does nothing: there is no such limit.
///
/// # Errors
/// None.
#[cfg(not(unix))]
pub fn survive_file_size_limit() -> io::Result<()> {
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn the_ignored_signals_are_read() {
        assert_eq!(ignored("SigBlk:\t0000000000000000\nSigIgn:\t0000000000001003\nSigCgt:\t0\n"), 0x1003);
        assert_eq!(ignored("SigIgn:\tnonsense\n"), 0);
        assert_eq!(ignored(""), 0);
    }
}
