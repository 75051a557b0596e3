//! What Ocelli's programs share, `ocelli` and those that it starts: results go to stdout through one locked handle, progress,
//! logs and errors to stderr. Exit codes: 0 ok, 1 failed, 2 usage.

pub mod beside;
pub mod device_option;
pub mod error;
pub mod input_file;
pub mod model_export;
pub mod model_option;
pub mod output;
pub mod output_file;
pub mod signals;

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;

use error::{EXIT_OK, EXIT_USAGE};
use output::{Format, Printer};
use tracing_subscriber::EnvFilter;

/// What every command takes.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct Options {
    /// Print results as JSON, for scripts
    #[arg(long, global = true)]
    json: bool,

    /// Log more to stderr; RUST_LOG, if set, decides instead
    #[arg(long, short, global = true)]
    verbose: bool,
}

impl Options {
    /// Starts the log on stderr, and gives the way to stdout. Without `--verbose`, what is logged is `quiet`, in the syntax of
    /// `RUST_LOG`.
    pub fn start(self, quiet: &str) -> Printer {
        start_log(if self.verbose { VERBOSE } else { quiet });
        // If the system refuses, a limit on the size of files ends the program, as it does by default.
        drop(signals::survive_file_size_limit());
        Printer::lock(if self.json { Format::Json } else { Format::Text })
    }
}

/// What commands log that have nobody to report to but the one who waits for their result.
pub const ERRORS_ONLY: &str = "error";

/// Kademlia warns whenever it knows no peer, which a node says itself, and with what to do.
const VERBOSE: &str = "info,libp2p_kad=error,ocelli_node=debug,ocelli_protocol=debug,ocelli_model=debug";

fn start_log(default: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        // What it would say on stderr about a stderr that is gone (a closed terminal or pipe) would end the node.
        .log_internal_errors(false)
        .init();
}

/// Prints help, the version, or what is wrong with a command line, and gives the exit code.
pub fn not_parsed(error: &clap::Error) -> ExitCode {
    // Help and version go to stdout, mistakes to stderr; there is nobody to tell that either is closed.
    drop(error.print());
    ExitCode::from(if error.use_stderr() { EXIT_USAGE } else { EXIT_OK })
}
