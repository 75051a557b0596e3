//! `--wallet NAME|FILE|dev` and `--password-file FILE`: whose key signs.

use std::fmt;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use ocelli_consensus::Address;
use ocelli_consensus::network::{DEV_WALLET_SEED, Network};
use zeroize::Zeroizing;

use super::error::CommandError;
use super::{folders, network_option};
use crate::wallet::{Confirm, LockedWallet, Wallet, WalletError, read_password, read_watched};

/// The name of the development wallet; a file of that name is `./dev`.
pub const DEV_WALLET: &str = "dev";

/// The wallet that is meant when none is named.
const DEFAULT_WALLET: &str = "default";

/// How the file of a key ends in the folder of wallets.
pub const KEY_ENDING: &str = "pem";

/// How the file of a watch-only wallet ends, there and elsewhere.
pub const WATCHED_ENDING: &str = "address";

/// The only network on which the development wallet may be used, as everybody has its key.
const DEV_NETWORK: &str = "local";

/// The network whose wallets are meant when none is named.
const DEFAULT_NETWORK: &str = "testnet";

/// Which wallet.
#[derive(Debug, Clone, clap::Args)]
pub struct WalletOption {
    /// A wallet of ~/.local/share/ocelli/wallets by its name, which is letters, digits, - and _; or a file; or `dev`, the
    /// development wallet of network `local` [default: default]
    #[arg(long, value_name = "NAME|FILE|dev")]
    wallet: Option<String>,

    /// Read the wallet's password from the first line of this file; OCELLI_PASSWORD, if set, comes first
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

impl WalletOption {
    /// The wallet of that name, as `--wallet` and `--password-file` would give it.
    pub fn named(wallet: String, password_file: Option<PathBuf>) -> Self {
        Self { wallet: Some(wallet), password_file }
    }

    /// How it is named on a command line, with a space before it; nothing for the default.
    pub fn as_option(&self) -> String {
        self.wallet.as_ref().map_or_else(String::new, |wallet| format!(" --wallet {wallet}"))
    }

    /// Whether it is the development wallet.
    pub fn is_dev(&self) -> bool {
        self.wallet.as_deref() == Some(DEV_WALLET)
    }

    /// The wallet's file, whether it is there or not. That of a name is the key's, unless only an address has that name.
    ///
    /// # Errors
    /// For a name when there is no home folder.
    pub fn path(&self) -> Result<PathBuf, CommandError> {
        let name = self.wallet.as_deref().unwrap_or(DEFAULT_WALLET);
        if !is_name(name) {
            return Ok(PathBuf::from(name));
        }
        let file = |ending| folders::wallets().map(|folder| folder.join(name).with_extension(ending));
        let (key, watched) = (file(KEY_ENDING)?, file(WATCHED_ENDING)?);
        let is_there = |path: &Path| path.symlink_metadata().is_ok();
        Ok(if is_there(&watched) && !is_there(&key) { watched } else { key })
    }

    /// The file of a wallet that is to be there; as [`WalletOption::path`] but for a file that was taken for a name.
    fn existing(&self) -> Result<PathBuf, CommandError> {
        let path = self.path()?;
        match self.wallet.as_deref() {
            Some(name) if is_name(name) && !path.exists() && Path::new(name).exists() => {
                Err(CommandError::failed(format!("found no wallet of the name {name} at {}", path.display()))
                    .with_hint(format!("the file {name} of this folder is --wallet ./{name}")))
            }
            _ => Ok(path),
        }
    }

    /// The network that the wallet is used on: the one named, else `local` for the development wallet and `testnet` for
    /// every other.
    ///
    /// # Errors
    /// As [`network_option::resolve`], and for the development wallet anywhere but on `local`.
    pub fn network(&self, name: Option<&str>) -> Result<Network, CommandError> {
        let network =
            network_option::resolve(name.unwrap_or(if self.is_dev() { DEV_NETWORK } else { DEFAULT_NETWORK }))?;
        self.check(&network)?;
        Ok(network)
    }

    /// Refuses the development wallet on a network where it could hold anything of worth.
    ///
    /// # Errors
    /// If it is used anywhere but on `local`.
    pub fn check(&self, network: &Network) -> Result<(), CommandError> {
        let name = &network.parameters.name;
        if self.is_dev() && name != DEV_NETWORK {
            return Err(CommandError::failed(format!(
                "everybody has the key of the development wallet: it is for network {DEV_NETWORK}, not for {name}"
            ))
            .with_hint("make a wallet of your own with `ocelli wallet new`, or use --network local"));
        }
        Ok(())
    }

    /// Opens the wallet; asks for its password if need be.
    ///
    /// # Errors
    /// As [`LockedWallet::read`], [`LockedWallet::open`] and [`read_password`], and for a watch-only wallet.
    pub fn open(&self) -> Result<Wallet, CommandError> {
        if self.is_dev() {
            return Ok(Wallet::from_seed(DEV_WALLET_SEED));
        }
        Ok(self.open_file()?.0)
    }

    /// Opens the wallet's file, and returns the password that opens it too.
    ///
    /// # Errors
    /// As [`WalletOption::open`], and for the development wallet, which has no file.
    pub fn open_file(&self) -> Result<(Wallet, Zeroizing<Vec<u8>>), CommandError> {
        if self.is_dev() {
            return Err(CommandError::usage("everybody has the key of the development wallet, and it has no file"));
        }
        let path = self.existing()?;
        if is_watched(&path) && path.exists() {
            return Err(WalletError::NoKey { path }.into());
        }
        // Before anybody types a password for nothing.
        self.unlock(&LockedWallet::read(&path)?)
    }

    fn unlock(&self, locked: &LockedWallet) -> Result<(Wallet, Zeroizing<Vec<u8>>), CommandError> {
        let password = self.password(Confirm::No)?;
        Ok((locked.open(&password)?, password))
    }

    /// The wallet's account, which is public: asks for the password only where the file does not state the public key.
    ///
    /// # Errors
    /// As [`WalletOption::open`].
    pub fn address(&self) -> Result<Address, CommandError> {
        if self.is_dev() {
            return Ok(address_of(&self.open()?));
        }
        let path = self.existing()?;
        if is_watched(&path) {
            return Ok(read_watched(&path)?);
        }
        let locked = LockedWallet::read(&path)?;
        if let Some(key) = locked.stated_key() {
            return Ok(Address::of(&key));
        }
        // Before the password is asked for, so that the person knows why.
        say(format_args!(
            "{} does not state its public key, as wallets of `ocelli wallet new` do: it has to be opened",
            path.display()
        ));
        let (wallet, _) = self.unlock(&locked)?;
        say(format_args!(
            "hint: to have its address without the password, put this line at the top of the file: {}",
            wallet.statement()
        ));
        Ok(address_of(&wallet))
    }

    /// The file of a wallet that is to be made.
    ///
    /// # Errors
    /// For the development wallet, and where the file is there already.
    pub fn new_path(&self) -> Result<PathBuf, CommandError> {
        if self.is_dev() {
            return Err(CommandError::usage("`dev` is the development wallet, which needs no file")
                .with_hint("use it with --wallet dev, or choose another name; a file of that name is ./dev"));
        }
        let path = self.path()?;
        if path.symlink_metadata().is_ok() {
            return Err(WalletError::Exists { path }.into());
        }
        Ok(path)
    }

    /// Makes a new wallet; asks for its password if need be.
    ///
    /// # Errors
    /// As [`WalletOption::new_path`], [`Wallet::create`] and [`read_password`].
    pub fn create(&self) -> Result<(PathBuf, Wallet), CommandError> {
        let path = self.new_path()?;
        let password = self.password(Confirm::Yes)?;
        let wallet = Wallet::create(&path, &password)?;
        Ok((path, wallet))
    }

    /// Reads the password, of a wallet that is there or of one that is to be made.
    ///
    /// # Errors
    /// As [`read_password`].
    pub fn password(&self, confirm: Confirm) -> Result<Zeroizing<Vec<u8>>, WalletError> {
        read_password(self.password_file.as_deref(), confirm)
    }
}

/// Whether a text is the name of a wallet, and not a file.
pub fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|letter| letter.is_alphanumeric() || letter == '-' || letter == '_')
}

/// Whether a file is that of a watch-only wallet.
pub fn is_watched(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == WATCHED_ENDING)
}

/// The account of a wallet.
pub fn address_of(wallet: &Wallet) -> Address {
    Address::of(&wallet.public_key())
}

/// Tells the person at the terminal; there is nobody to tell that stderr is closed.
fn say(text: fmt::Arguments<'_>) {
    drop(writeln!(io::stderr(), "{text}"));
}
