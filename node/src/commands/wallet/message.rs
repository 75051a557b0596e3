//! `ocelli wallet sign` and `verify`.

use std::path::PathBuf;

use ocelli_consensus::Address;
use ocelli_program::input_file::read_bounded;
use serde_json::json;

use super::super::error::{CommandError, Explain as _};
use super::super::network_option;
use super::super::output::Printer;
use super::super::wallet_option::{WalletOption, address_of};
use crate::wallet::verify_message;

/// Bounds a message's file: it is read whole.
const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// What is signed: a text, or a file's bytes.
#[derive(Debug, clap::Args)]
#[group(id = "what", required = true, multiple = false, args = ["message", "file"])]
struct What {
    /// The text
    #[arg(value_name = "MESSAGE")]
    message: Option<String>,

    /// The bytes of this file instead, at most 64 MiB
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// Sign a message, which is no transaction: it shows that you hold the address
#[derive(Debug, clap::Args)]
pub struct SignArgs {
    #[command(flatten)]
    what: What,

    #[command(flatten)]
    wallet: WalletOption,

    /// The network whose address is printed with --json: local, testnet, or a network file [default: testnet, local for
    /// `--wallet dev`]
    #[arg(long, value_name = "NAME|FILE")]
    network: Option<String>,
}

/// Check that the holder of an address has signed a message; no wallet is needed
#[derive(Debug, clap::Args)]
pub struct VerifyArgs {
    /// Who is said to have signed
    #[arg(value_name = "ADDRESS")]
    address: String,

    /// What `ocelli wallet sign` printed
    #[arg(value_name = "SIGNATURE")]
    signature: String,

    #[command(flatten)]
    what: What,

    /// The network of the address: local, testnet, or a network file
    #[arg(long, value_name = "NAME|FILE", default_value = "testnet")]
    network: String,
}

impl What {
    fn bytes(&self) -> Result<Vec<u8>, CommandError> {
        match (&self.message, &self.file) {
            (_, Some(path)) => {
                read_bounded(path, MAX_MESSAGE_BYTES).context(|| format!("cannot read {}", path.display()))
            }
            (message, None) => Ok(message.clone().unwrap_or_default().into_bytes()),
        }
    }
}

/// Runs `ocelli wallet sign`.
///
/// # Errors
/// For a wallet that cannot be opened, and a file that cannot be read.
pub fn sign(args: &SignArgs, output: &mut Printer) -> Result<(), CommandError> {
    let network = args.wallet.network(args.network.as_deref())?;
    let message = args.what.bytes()?;
    let wallet = args.wallet.open()?;
    let signature = wallet.sign_message(&message);
    if output.is_json() {
        let address = address_of(&wallet).to_text(&network.parameters.address_prefix);
        return output.json(&json!({ "address": address, "signature": signature }));
    }
    output.line(signature)
}

/// Runs `ocelli wallet verify`.
///
/// # Errors
/// Where the address has not signed the message, and for a file that cannot be read.
pub fn verify(args: &VerifyArgs, output: &mut Printer) -> Result<(), CommandError> {
    let network = network_option::resolve(&args.network)?;
    let address = Address::from_text(&args.address, &network.parameters.address_prefix)?;
    verify_message(&address, &args.signature, &args.what.bytes()?)?;
    if output.is_json() {
        return output.json(&json!({ "address": args.address, "valid": true }));
    }
    output.line(format_args!("signed by the key of {}", args.address))
}
