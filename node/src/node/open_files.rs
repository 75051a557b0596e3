//! The limit on open files, of which each connection is one.

use super::NodeError;

/// What a node opens beside inbound connections, generously: 256 files of the database, dialled peers, connections that are being
/// set up, listeners, logs.
const OTHERS: u64 = 512;

/// Raises this process's limit on open files as far as so many inbound connections need, and so many of the API.
///
/// # Errors
/// If the system does not allow as many.
#[cfg(unix)]
pub fn raise_limit(inbound: u32, api: usize) -> Result<(), NodeError> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let expected = u64::from(inbound) + api as u64 + OTHERS;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    match current {
        // No limit at all.
        None => Ok(()),
        Some(current) if current >= expected => Ok(()),
        Some(current) => setrlimit(Resource::Nofile, Rlimit { current: Some(expected), maximum })
            .map_err(|_| NodeError::OpenFiles { found: maximum.unwrap_or(current).max(current), expected, inbound }),
    }
}

/// Other systems have no such limit.
#[cfg(not(unix))]
pub fn raise_limit(_: u32, _: usize) -> Result<(), NodeError> {
    Ok(())
}
