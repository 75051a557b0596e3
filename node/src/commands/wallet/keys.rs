//! `ocelli wallet import`, `export` and `list`.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};

use ocelli_consensus::Address;
use ocelli_program::output_file::{Readers, write};
use serde::Serialize;
use serde_json::json;
use zeroize::Zeroizing;

use super::super::error::{CommandError, Explain as _};
use super::super::output::Printer;
use super::super::wallet_option::{KEY_ENDING, WATCHED_ENDING, WalletOption, address_of, is_name, is_watched};
use super::super::{folders, network_option};
use crate::wallet::{Confirm, KeyFile, LockedWallet, PHRASE_WORDS, Wallet, WalletError, read_watched, write_watched};

/// Bounds what is read of stdin for a phrase, whose words have at most 8 letters.
const MAX_PHRASE_BYTES: u64 = 4_096;

/// Make a wallet of a key that there is already: of a file, of a backup phrase, or of an address alone
#[derive(Debug, clap::Args)]
#[group(id = "source", required = true, multiple = false, args = ["file", "phrase", "address"])]
pub struct ImportArgs {
    /// An Ed25519 key in PKCS#8, PEM or DER, encrypted or not, as `openssl genpkey -algorithm ed25519` makes it
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,

    /// Restore the wallet of a backup phrase: 24 words, typed in or from stdin
    #[arg(long)]
    phrase: bool,

    /// Watch this address: its balance and its history can be seen, and nothing signed
    #[arg(long, value_name = "ADDRESS")]
    address: Option<String>,

    #[command(flatten)]
    wallet: WalletOption,

    /// The network whose address is printed: local, testnet, or a network file [default: testnet]
    #[arg(long, value_name = "NAME|FILE")]
    network: Option<String>,
}

/// Print a wallet's encrypted file, or its backup phrase
///
/// The wallet is opened first, so what is printed is known to be whole. Keep a phrase on paper: whoever reads it has the
/// account, without any password.
#[derive(Debug, clap::Args)]
pub struct ExportArgs {
    /// Print the backup phrase, the 24 words of BIP-39 that are the key, instead of the encrypted file
    #[arg(long)]
    phrase: bool,

    /// Write to this file, readable by its owner only, instead of stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    #[command(flatten)]
    wallet: WalletOption,
}

/// List the wallets that have names, with their addresses; no password is needed
#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// The network of the addresses: local, testnet, or a network file
    #[arg(long, value_name = "NAME|FILE", default_value = "testnet")]
    network: String,
}

#[derive(Debug, Serialize)]
struct Listed {
    name: String,
    /// `key` or `watch-only`.
    kind: &'static str,
    /// None where the file does not state it.
    address: Option<String>,
    file: PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

/// Runs `ocelli wallet import`.
///
/// # Errors
/// For a key that cannot be read, and a wallet that is there already or cannot be written.
pub fn import(args: &ImportArgs, output: &mut Printer) -> Result<(), CommandError> {
    let network = args.wallet.network(args.network.as_deref())?;
    let prefix = &network.parameters.address_prefix;
    let (path, address) = match (&args.file, &args.address) {
        (_, Some(text)) => {
            let address = Address::from_text(text, prefix)?;
            let path = args.wallet.new_path()?.with_extension(WATCHED_ENDING);
            write_watched(&path, &address.to_text(prefix))?;
            (path, address)
        }
        (Some(file), None) => {
            let path = args.wallet.new_path()?;
            let (wallet, password) = match KeyFile::read(file)? {
                KeyFile::Locked(locked) => {
                    let password = args.wallet.password(Confirm::No)?;
                    (locked.open(&password)?, password)
                }
                KeyFile::Open(wallet) => (wallet, args.wallet.password(Confirm::Yes)?),
            };
            wallet.write(&path, &password)?;
            (path, address_of(&wallet))
        }
        (None, None) => {
            let path = args.wallet.new_path()?;
            let wallet = Wallet::from_phrase(&read_phrase()?)?;
            wallet.write(&path, &args.wallet.password(Confirm::Yes)?)?;
            (path, address_of(&wallet))
        }
    };
    let address = address.to_text(prefix);
    if output.is_json() {
        return output.json(&json!({ "address": address, "wallet": path }));
    }
    output.rows(&[("address", address), ("wallet", path.display().to_string())])
}

/// Reads words from stdin: on a terminal until there are enough of them, else all that comes.
fn read_phrase() -> Result<Zeroizing<String>, CommandError> {
    let mut text = Zeroizing::new(String::with_capacity(MAX_PHRASE_BYTES as usize));
    let failed = || "cannot read the phrase from stdin".to_owned();
    if !io::stdin().is_terminal() {
        io::stdin().lock().take(MAX_PHRASE_BYTES).read_to_string(&mut text).context(failed)?;
        return Ok(text);
    }
    drop(write!(io::stderr(), "The {PHRASE_WORDS} words, in one line or several: "));
    let mut lines = io::stdin().lock().take(MAX_PHRASE_BYTES);
    while text.split_whitespace().count() < PHRASE_WORDS && lines.read_line(&mut text).context(failed)? > 0 {}
    Ok(text)
}

/// Runs `ocelli wallet export`.
///
/// # Errors
/// For a wallet that cannot be opened, and a file that cannot be written.
pub fn export(args: &ExportArgs, output: &mut Printer) -> Result<(), CommandError> {
    let text = if args.phrase {
        let mut phrase = args.wallet.open()?.phrase();
        phrase.push('\n');
        phrase
    } else {
        let (wallet, password) = args.wallet.open_file()?;
        wallet.to_pem(&password)?
    };
    match &args.output {
        Some(path) => {
            if path.symlink_metadata().is_ok_and(|found| found.is_file()) {
                return Err(WalletError::Exists { path: path.clone() }.into());
            }
            write(path, text.as_bytes(), Readers::Owner).context(|| format!("cannot write {}", path.display()))?;
            if output.is_json() { output.json(&json!({ "file": path })) } else { Ok(()) }
        }
        None if output.is_json() && args.phrase => output.json(&json!({ "phrase": text.trim_end() })),
        None if output.is_json() => output.json(&json!({ "pem": *text })),
        None => output.line(text.trim_end()),
    }
}

/// Runs `ocelli wallet list`.
///
/// # Errors
/// For a network that is not known, and a folder that cannot be read.
pub fn list(args: &ListArgs, output: &mut Printer) -> Result<(), CommandError> {
    let network = network_option::resolve(&args.network)?;
    let folder = folders::wallets()?;
    let wallets = listed(&folder, &network.parameters.address_prefix)
        .context(|| format!("cannot read the folder of wallets, {}", folder.display()))?;
    if output.is_json() {
        return output.json(&json!({ "folder": folder, "wallets": wallets }));
    }
    if wallets.is_empty() {
        return output.line(format_args!("no wallets in {}; `ocelli wallet new` makes one", folder.display()));
    }
    let width = wallets.iter().map(|wallet| wallet.name.chars().count()).max().unwrap_or(0);
    for wallet in wallets {
        let address = match (&wallet.address, &wallet.problem) {
            (Some(address), _) => address.as_str(),
            (None, Some(problem)) => problem,
            (None, None) => "its file does not state the public key; `ocelli wallet address` opens it",
        };
        output.line(format_args!("{:width$}  {:10}  {address}", wallet.name, wallet.kind))?;
    }
    Ok(())
}

fn listed(folder: &Path, prefix: &str) -> io::Result<Vec<Listed>> {
    let entries = match folder.read_dir() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    files.sort();
    Ok(files.into_iter().filter_map(|file| listed_file(file, prefix)).collect())
}

fn listed_file(file: PathBuf, prefix: &str) -> Option<Listed> {
    let name = file.file_stem()?.to_str().filter(|name| is_name(name))?.to_owned();
    let is_watched = is_watched(&file);
    if !is_watched && file.extension()? != KEY_ENDING {
        return None;
    }
    let found = if is_watched {
        read_watched(&file).map(Some)
    } else {
        LockedWallet::read(&file).map(|locked| locked.stated_key().map(|key| Address::of(&key)))
    };
    let (address, problem) = match found {
        Ok(address) => (address.map(|address| address.to_text(prefix)), None),
        Err(error) => (None, Some(error.to_string())),
    };
    Some(Listed { name, kind: if is_watched { "watch-only" } else { "key" }, address, file, problem })
}
