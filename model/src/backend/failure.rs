//! What a GPU's library says when it fails, in one line: candle's errors carry backtraces, and the libraries below it panic
//! where there is no driver.

use std::any::Any;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// Bounds what is kept of the library's words, in characters.
const MAX_CHARACTERS: usize = 300;

/// How cudarc's panic begins where the driver's library is not found; the names of some fifteen files follow.
const NO_LIBRARY: &str = "Unable to dynamically load the ";

/// Why a device failed, in one line of the library's own words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DeviceFailure(String);

impl DeviceFailure {
    /// Our own words.
    pub(super) fn new(words: impl Into<String>) -> Self {
        Self(words.into())
    }

    fn of_panic(panic: &(dyn Any + Send)) -> Self {
        let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        let text = text.unwrap_or("it panicked");
        match text.strip_prefix(NO_LIBRARY).and_then(|rest| rest.split('"').nth(1)) {
            Some(library) => Self(format!("the library `{library}` is not found: is the GPU's driver installed?")),
            None => Self(first_line(text)),
        }
    }
}

impl From<candle_core::Error> for DeviceFailure {
    fn from(mut error: candle_core::Error) -> Self {
        while let candle_core::Error::WithBacktrace { inner, .. } = error {
            error = *inner;
        }
        Self(first_line(&error.to_string()))
    }
}

fn first_line(text: &str) -> String {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("it does not say why");
    line.chars().filter(|c| !c.is_control()).take(MAX_CHARACTERS).collect()
}

/// Calls a library that may panic where it should fail, without a word of that panic on stderr.
pub(super) fn guarded<T>(call: impl FnOnce() -> candle_core::Result<T>) -> Result<T, DeviceFailure> {
    // The hook belongs to the whole process: one at a time, and other threads keep theirs.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let before = Arc::new(panic::take_hook());
    let (others, this) = (Arc::clone(&before), thread::current().id());
    panic::set_hook(Box::new(move |info| {
        if thread::current().id() != this {
            others(info);
        }
    }));
    let result = panic::catch_unwind(AssertUnwindSafe(call));
    panic::set_hook(Box::new(move |info| before(info)));
    match result {
        Ok(result) => result.map_err(DeviceFailure::from),
        Err(panic) => Err(DeviceFailure::of_panic(&*panic)),
    }
}

#[cfg(test)]
mod tests {
    use std::backtrace::Backtrace;

    use candle_core::Error;

    use super::*;

    #[test]
    fn one_line_is_left_of_what_a_library_says() {
        let traced =
            |inner| Error::WithBacktrace { inner: Box::new(inner), backtrace: Box::new(Backtrace::force_capture()) };
        let long = "x".repeat(1 << 20);
        let rows = [
            (Error::Msg("no driver".into()), "no driver"),
            (traced(traced(Error::Msg("no driver".into()))), "no driver"),
            (Error::Msg("\n  a\u{1b}[31mb\n   0: <unknown>\n".into()), "a[31mb"),
            (Error::Msg(String::new()), "it does not say why"),
            (Error::Msg(long.clone()), &long[..MAX_CHARACTERS]),
        ];
        for (error, expected) in rows {
            assert_eq!(DeviceFailure::from(error).0, expected);
        }
    }

    #[test]
    fn a_library_that_panics_has_failed() {
        let text = "Unable to dynamically load the \"cuda\" shared library - searched for library names: [\"cuda\", \
                    \"libcuda.so\"]. Ensure that `LD_LIBRARY_PATH` has the correct path to the installed library.";
        let rows = [
            (text, "the library `cuda` is not found: is the GPU's driver installed?"),
            ("Missing symbol cuInit: x\n  0: <unknown>", "Missing symbol cuInit: x"),
        ];
        for (text, expected) in rows {
            assert_eq!(guarded::<()>(|| panic!("{text}")).unwrap_err().to_string(), expected);
        }
        assert_eq!(guarded(|| Ok(7)), Ok(7));
        // Panics are told again.
        let told = Arc::new(Mutex::new(0));
        let count = Arc::clone(&told);
        let before = panic::take_hook();
        let this = thread::current().id();
        panic::set_hook(Box::new(move |_| {
            if thread::current().id() == this {
                *count.lock().unwrap() += 1;
            }
        }));
        assert!(guarded::<()>(|| panic!("quiet")).is_err());
        assert!(panic::catch_unwind(|| panic!("loud")).is_err());
        panic::set_hook(before);
        assert_eq!(*told.lock().unwrap(), 1);
    }
}
