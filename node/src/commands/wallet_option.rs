//! `--wallet dev|FILE` and `--password-file FILE`: whose key signs.

use std::fmt;
use std::io::{self, Write as _};
use std::path::PathBuf;

use ocelli_consensus::Address;
use ocelli_consensus::network::{DEV_WALLET_SEED, Network};

use super::error::CommandError;
use super::{folders, network_option};
use crate::wallet::{Confirm, LockedWallet, Wallet, read_password};

/// The name of the development wallet; a file of that name is `./dev`.
pub const DEV_WALLET: &str = "dev";

/// The only network on which the development wallet may be used, as everybody has its key.
const DEV_NETWORK: &str = "local";

/// The network whose wallets are meant when none is named.
const DEFAULT_NETWORK: &str = "testnet";

/// Which wallet.
#[derive(Debug, Clone, clap::Args)]
pub struct WalletOption {
    /// The wallet's file, or `dev` for the development wallet of network `local`
    /// [default: ~/.local/share/ocelli/wallet.pem]
    #[arg(long, value_name = "FILE|dev")]
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

    /// Whether it is the development wallet.
    pub fn is_dev(&self) -> bool {
        self.wallet.as_deref() == Some(DEV_WALLET)
    }

    /// The wallet's file.
    ///
    /// # Errors
    /// When none is named and there is no home folder.
    pub fn path(&self) -> Result<PathBuf, CommandError> {
        self.wallet.as_ref().map_or_else(folders::wallet, |path| Ok(PathBuf::from(path)))
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
    /// As [`LockedWallet::read`], [`LockedWallet::open`] and [`read_password`].
    pub fn open(&self) -> Result<Wallet, CommandError> {
        if self.is_dev() {
            return Ok(Wallet::from_seed(DEV_WALLET_SEED));
        }
        // Before anybody types a password for nothing.
        self.unlock(&LockedWallet::read(&self.path()?)?)
    }

    fn unlock(&self, locked: &LockedWallet) -> Result<Wallet, CommandError> {
        let password = read_password(self.password_file.as_deref(), Confirm::No)?;
        Ok(locked.open(&password)?)
    }

    /// The wallet's account, which is public: asks for the password only where the file does not state the public key.
    ///
    /// # Errors
    /// As [`WalletOption::open`].
    pub fn address(&self) -> Result<Address, CommandError> {
        if self.is_dev() {
            return Ok(address_of(&self.open()?));
        }
        let path = self.path()?;
        let locked = LockedWallet::read(&path)?;
        if let Some(key) = locked.stated_key() {
            return Ok(Address::of(&key));
        }
        // Before the password is asked for, so that the person knows why.
        say(format_args!(
            "{} does not state its public key, as wallets of `ocelli wallet new` do: it has to be opened",
            path.display()
        ));
        let wallet = self.unlock(&locked)?;
        say(format_args!(
            "hint: to have its address without the password, put this line at the top of the file: {}",
            wallet.statement()
        ));
        Ok(address_of(&wallet))
    }

    /// Makes a new wallet; asks for its password if need be.
    ///
    /// # Errors
    /// As [`Wallet::create`] and [`read_password`].
    pub fn create(&self) -> Result<(PathBuf, Wallet), CommandError> {
        if self.is_dev() {
            return Err(CommandError::usage("`dev` is the development wallet, which needs no file")
                .with_hint("use it with --wallet dev, or choose another name; a file of that name is ./dev"));
        }
        let path = self.path()?;
        if path.symlink_metadata().is_ok() {
            return Err(crate::wallet::WalletError::Exists { path }.into());
        }
        let password = read_password(self.password_file.as_deref(), Confirm::Yes)?;
        let wallet = Wallet::create(&path, &password)?;
        Ok((path, wallet))
    }
}

/// The account of a wallet.
pub fn address_of(wallet: &Wallet) -> Address {
    Address::of(&wallet.public_key())
}

/// Tells the person at the terminal; there is nobody to tell that stderr is closed.
fn say(text: fmt::Arguments<'_>) {
    drop(writeln!(io::stderr(), "{text}"));
}
