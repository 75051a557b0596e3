//! `ocelli node`.

mod run;

use std::net::SocketAddr;
use std::path::PathBuf;

use ocelli_consensus::network::Network;
use ocelli_consensus::{Address, Amount};
use ocelli_model::{DeviceChoice, Model};
use ocelli_program::model_option::load_file;

use super::device_option::OTHER_DEVICE;
use super::error::{CommandError, Explain as _};
use super::wallet_option::WalletOption;
use super::{folders, network_option};
use crate::api;
use crate::chain::{MissingAttachments, Prune};
use crate::network::DEFAULT_INBOUND;
use crate::node::{Addresses, Capacity, FaucetConfig, NodeError, Spender, Storage, is_of_genesis};
use crate::store::{DEFAULT_CACHE_BYTES, LedgerOption, MIN_CACHE_BYTES, StoreOptions};

/// Ocelli's port: 0x0CE1.
pub(super) const DEFAULT_PORT: u16 = 3297;

/// The fewest connections that can be asked for: commands connect as others do, and of fewer peers nearly all are spared.
const MIN_INBOUND: i64 = 32;
/// The most connections that can be asked for: each is a socket, and 0.6 MB while all of them flood the node.
const MAX_INBOUND: i64 = 10_000;

/// TCP and QUIC on every interface, at that port.
const DEFAULT_LISTEN: [&str; 2] = ["/ip4/0.0.0.0/tcp/3297", "/ip4/0.0.0.0/udp/3297/quic-v1"];

/// Run a node: keep the chain, check every answer, and mine if asked to
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The network: local, testnet, or a network file
    #[arg(long, value_name = "NAME|FILE", default_value = "testnet")]
    network: String,

    /// Where the node keeps its data [default: ~/.local/share/ocelli/NETWORK]
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,

    /// Mine, and pay rewards to this address
    #[arg(long, value_name = "ADDRESS")]
    mine: Option<String>,

    /// How many threads mine, at idle priority
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = 1,
        requires = "mine",
        value_parser = clap::value_parser!(u16).range(1..=1024)
    )]
    mine_threads: u16,

    /// Where models run
    #[arg(long, value_name = "auto|cpu|cuda|metal", default_value = "auto")]
    device: DeviceChoice,

    /// Keep the file of a model that the network has from its beginning and that is not built in; may be repeated. The node
    /// has it from then on. Without this, it is fetched from peers
    #[arg(long, value_name = "FILE")]
    model_file: Vec<String>,

    #[command(flatten)]
    peers: PeerArgs,

    #[command(flatten)]
    storage: StorageArgs,

    #[command(flatten)]
    api: ApiArgs,

    #[command(flatten)]
    faucet: FaucetArgs,
}

/// How the node finds others and is found.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Peers")]
struct PeerArgs {
    /// Listen at this multiaddr; may be repeated. Port 0 takes a free one
    #[arg(long, value_name = "MULTIADDR", default_values = DEFAULT_LISTEN)]
    listen: Vec<String>,

    /// Join the network through the node at this multiaddr, such as /ip4/192.0.2.1/tcp/3297; may be repeated [default: the
    /// network's bootstrap nodes]
    #[arg(long, value_name = "MULTIADDR")]
    peer: Vec<String>,

    /// Others reach this node at this multiaddr, which it would not find out itself; may be repeated
    #[arg(long, value_name = "MULTIADDR")]
    external: Vec<String>,

    /// How many others may connect to this node at a time
    #[arg(
        long,
        value_name = "NUMBER",
        default_value_t = DEFAULT_INBOUND,
        value_parser = clap::value_parser!(u32).range(MIN_INBOUND..=MAX_INBOUND)
    )]
    max_inbound: u32,

    /// Neither look for nodes in the local network by mDNS nor answer them
    #[arg(long)]
    no_mdns: bool,

    /// Do not ask the router to forward the ports
    #[arg(long)]
    no_upnp: bool,

    /// Do not relay connections for nodes that others cannot dial
    #[arg(long)]
    no_relay_server: bool,
}

/// What it keeps, and with how much memory.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Storage")]
struct StorageArgs {
    /// Forget old attachments (pictures, and parts of models): keep those of so many days (30d), or as many as fit into a
    /// size (20GiB). What the network has every node keep is kept in any case [default: that and up to 20 GiB more]
    #[arg(long, value_name = "DAYS|SIZE", conflicts_with = "archive")]
    prune: Option<Prune>,

    /// Keep all attachments, for others who come later
    #[arg(long)]
    archive: bool,

    /// Keep no ledger of accounts, and delete what there is of one: `ocelli wallet history` has to ask another node then
    #[arg(long)]
    no_index: bool,

    /// Wait for the attachments of every block, however deep, and check every answer. Without this, deep blocks whose
    /// attachments no peer has any more are accepted on the work above them
    #[arg(long)]
    full: bool,

    /// Memory for the database, in MiB
    #[arg(
        long,
        value_name = "MIB",
        default_value_t = (DEFAULT_CACHE_BYTES >> 20) as u32,
        value_parser = clap::value_parser!(u32).range((MIN_CACHE_BYTES >> 20) as i64..=1 << 20)
    )]
    db_cache: u32,

    /// No new connections while the node takes more memory than this, in MiB [default: three quarters of the machine's]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(64..=1 << 24))]
    max_memory: Option<u32>,
}

/// How it answers over HTTP.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "HTTP API")]
struct ApiArgs {
    /// Answer over HTTP at this address: what is in pictures, and how the node is
    #[arg(long, value_name = "ADDRESS", num_args = 0..=1, default_missing_value = api::DEFAULT_LISTEN)]
    api: Option<SocketAddr>,

    /// Clients of the API call this machine by this name; may be repeated. `localhost` and IP addresses are known
    #[arg(long, value_name = "NAME", requires = "api")]
    api_host: Vec<String>,

    /// Pages of this origin, such as `https://example.org`, may use the API from within browsers; may be repeated
    #[arg(long, value_name = "ORIGIN", requires = "api", value_parser = api::parse_origin)]
    api_origin: Vec<String>,

    /// Have this wallet pay for answers that clients of the API want confirmed: its name, its file, or `dev` for the development
    /// wallet of network `local`. They have to show the token in the file api-token of the data folder
    #[arg(long, value_name = "NAME|FILE|dev", requires = "api")]
    api_wallet: Option<String>,

    /// How many credits may be spent for the API's clients in any 24 hours
    #[arg(long, value_name = "AMOUNT", default_value = "1", requires = "api_wallet")]
    api_limit: Amount,

    /// Read the password of the API's wallet from the first line of this file; OCELLI_PASSWORD, if set, comes first
    #[arg(long, value_name = "FILE", requires = "api_wallet")]
    api_password_file: Option<PathBuf>,
}

/// What it gives to newcomers.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Faucet")]
struct FaucetArgs {
    /// Give newcomers a little from this wallet: its file, or `dev` for the development wallet of network `local`
    #[arg(long, value_name = "FILE|dev")]
    faucet: Option<String>,

    /// How many credits the faucet gives to an address that has less
    #[arg(long, value_name = "AMOUNT", default_value = "1", requires = "faucet")]
    faucet_amount: Amount,

    /// Read the password of the faucet's wallet from the first line of this file; OCELLI_PASSWORD, if set, comes first
    #[arg(long, value_name = "FILE", requires = "faucet")]
    password_file: Option<PathBuf>,
}

/// What a node is started with.
pub struct NodeArgs {
    /// The network to join.
    pub network: Network,
    /// The data folder, which may not exist yet.
    pub data: PathBuf,
    pub addresses: Addresses,
    /// Whom mining pays; `None` does not mine.
    pub mine: Option<Address>,
    /// How many threads mine.
    pub mine_threads: usize,
    /// Where models run.
    pub device: DeviceChoice,
    /// Models of the network's genesis, from files.
    pub models: Vec<Model>,
    /// Whether nodes in the local network are looked for.
    pub mdns: bool,
    /// How many others may connect, and up to which memory.
    pub capacity: Capacity,
    /// Whether the router is asked to forward the ports.
    pub upnp: bool,
    /// Whether connections are relayed for others.
    pub relay_server: bool,
    /// What is kept on the disk.
    pub storage: Storage,
    /// How clients are answered over HTTP.
    pub api: Option<api::Config>,
    /// What newcomers are given.
    pub faucet: Option<FaucetConfig>,
}

impl Args {
    /// Finds the network and reads what depends on it.
    ///
    /// # Errors
    /// For a network that cannot be found, and an address that is not one of it.
    pub fn resolve(self) -> Result<NodeArgs, CommandError> {
        let network = network_option::resolve(&self.network)?;
        let prefix = &network.parameters.address_prefix;
        let mine = self.mine.as_deref().map(|text| Address::from_text(text, prefix)).transpose().hint(|| {
            format!("give --mine an address of network {}: `ocelli wallet address` prints yours", self.network)
        })?;
        let faucet = self.faucet.resolve(&network)?;
        let models = self.model_file.iter().map(|path| genesis_model(&network, path)).collect::<Result<_, _>>()?;
        Ok(NodeArgs {
            faucet,
            api: self.api.resolve(&network)?,
            models,
            data: self.data.map_or_else(|| folders::data(&network.parameters.name), Ok)?,
            mdns: !self.peers.no_mdns,
            upnp: !self.peers.no_upnp,
            relay_server: !self.peers.no_relay_server,
            capacity: Capacity {
                inbound: self.peers.max_inbound,
                memory_bytes: self.storage.max_memory.map(|mib| (mib as usize) << 20),
            },
            addresses: self.peers.addresses(&network),
            network,
            mine,
            mine_threads: self.mine_threads.into(),
            device: self.device,
            storage: self.storage.resolve(),
        })
    }
}

impl PeerArgs {
    fn addresses(self, network: &Network) -> Addresses {
        let bootstrap = if self.peer.is_empty() { network.bootstrap.clone() } else { self.peer };
        Addresses { bootstrap, listen: self.listen, external: self.external }
    }
}

impl StorageArgs {
    fn resolve(self) -> Storage {
        Storage {
            prune: if self.archive { None } else { Some(self.prune.unwrap_or(Prune::DEFAULT)) },
            missing_attachments: match self.full {
                true => MissingAttachments::Insist,
                false => MissingAttachments::AcceptOnWork,
            },
            store: StoreOptions {
                cache_bytes: (self.db_cache as usize) << 20,
                ledger: if self.no_index { LedgerOption::Dropped } else { LedgerOption::Kept },
                ..StoreOptions::default()
            },
        }
    }
}

impl ApiArgs {
    /// Opens the wallet that pays, if there is one.
    fn resolve(self, network: &Network) -> Result<Option<api::Config>, CommandError> {
        let Some(listen) = self.api else { return Ok(None) };
        let payer = match self.api_wallet {
            None => None,
            Some(wallet) => {
                let spender = open_wallet(network, wallet, self.api_password_file)?;
                Some(api::Payer { spender: spender.into(), limit: self.api_limit })
            }
        };
        let (hosts, origins) = (self.api_host, self.api_origin);
        Ok(Some(api::Config { hosts, origins, payer, ..api::Config::at(listen) }))
    }
}

impl FaucetArgs {
    /// Opens the wallet of the faucet, if there is one.
    fn resolve(self, network: &Network) -> Result<Option<FaucetConfig>, CommandError> {
        let Some(wallet) = self.faucet else { return Ok(None) };
        let (amount, minimum) = (self.faucet_amount, network.parameters.minimum_balance);
        if amount < minimum {
            return Err(CommandError::usage(format!(
                "--faucet-amount is {amount} credits, expected {minimum} or more, which opening an account takes"
            )));
        }
        Ok(Some(FaucetConfig { spender: open_wallet(network, wallet, self.password_file)?, amount }))
    }
}

/// Reads a model that a network has from its beginning.
fn genesis_model(network: &Network, path: &str) -> Result<Model, CommandError> {
    let model = load_file(path)?;
    if is_of_genesis(network, &model)? {
        return Ok(model);
    }
    let (id, name) = (model.id(), &network.parameters.name);
    Err(CommandError::usage(format!("{path} is model {id}, which network {name} does not have from its beginning"))
        .with_hint(format!(
            "`ocelli network show {name}` lists those that it has; `ocelli model publish` publishes others"
        )))
}

/// Opens a wallet that the node signs with while it runs.
fn open_wallet(network: &Network, wallet: String, password_file: Option<PathBuf>) -> Result<Spender, CommandError> {
    let option = WalletOption::named(wallet, password_file);
    option.check(network)?;
    Ok(Spender { wallet: option.open()?, turns: folders::turns() })
}

/// Runs a node until it is told to stop.
///
/// # Errors
/// When it cannot start or go on.
pub fn run(args: Args) -> Result<(), CommandError> {
    run::run(args.resolve()?).map_err(|error| match error {
        NodeError::Device(_) => CommandError::from(error).with_hint(OTHER_DEVICE),
        other => other.into(),
    })
}
