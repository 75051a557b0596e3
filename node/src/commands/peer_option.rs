//! `--peer`, `--data` and `--network`: which node a command asks.

use std::path::{Path, PathBuf};

use ocelli_consensus::network::Network;
use ocelli_protocol::message::{Control, Cookie, Request, Response};

use super::error::{CommandError, Explain as _};
use super::node_file::{self, NodeFile};
use super::{folders, network_option};
use crate::client::{Client, ClientError, Connection};
use crate::network::Peer;
use crate::node::cookie;

/// Which node to ask.
#[derive(Debug, Clone, clap::Args)]
pub struct PeerOption {
    /// Ask the node at this multiaddr, for example /ip4/127.0.0.1/tcp/3297; may be repeated: several are compared
    #[arg(long, value_name = "MULTIADDR", conflicts_with = "data")]
    peer: Vec<String>,

    /// Ask the node that runs on this machine with this data folder [default: ~/.local/share/ocelli/NETWORK]
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,

    /// The network: local, testnet, or a network file [default: the one that the node is on]
    #[arg(long, value_name = "NAME|FILE")]
    network: Option<String>,
}

/// The caller's own node, which is commanded through its data folder.
#[derive(Debug, Clone, clap::Args)]
pub struct OwnNode {
    /// The data folder of the node, which runs on this machine [default: ~/.local/share/ocelli/NETWORK]
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,

    /// The network: local, testnet, or a network file [default: the one that the node is on]
    #[arg(long, value_name = "NAME|FILE")]
    network: Option<String>,
}

impl PeerOption {
    /// As if these options had been given.
    pub fn of(peer: Vec<String>, data: Option<PathBuf>, network: Option<String>) -> Self {
        Self { peer, data, network }
    }

    /// Joins as a light peer and finds out which network the node is on.
    ///
    /// # Errors
    /// When there is no node to ask, it does not answer, or it is on another network than the one named.
    pub fn connect(&self) -> Result<Client, CommandError> {
        let networks = networks(self.network.as_deref())?;
        if self.peer.is_empty() {
            return Ok(connect_to(networks, self.data.as_deref())?.0);
        }
        let mut client = Client::connect(&networks, &self.peer)?;
        client.await_named(&self.peer)?;
        Ok(client)
    }
}

impl OwnNode {
    /// The node that runs on a data folder.
    pub fn of(data: PathBuf, network: String) -> Self {
        Self { data: Some(data), network: Some(network) }
    }

    /// Has the node do something, and returns what it says of that.
    ///
    /// # Errors
    /// As [`OwnNode::connect`], and when it does not obey.
    pub fn command(&self, control: Control) -> Result<String, CommandError> {
        match self.connect()?.ask(control)? {
            Response::Controlled { done } => Ok(done),
            _ => Err(CommandError::failed("the node answers something else; update the older of the two programs")),
        }
    }

    /// Joins the node as a light peer, makes sure that it is the one of the data folder, and reads the cookie that makes it obey.
    ///
    /// # Errors
    /// When there is no node, it does not answer, another peer answers in its place, or its cookie cannot be read: then it is
    /// somebody else's.
    pub fn connect(&self) -> Result<Owned, CommandError> {
        let (mut client, folder, file) = connect_to(networks(self.network.as_deref())?, self.data.as_deref())?;
        let expected: Peer = file.peer_id.parse().context(|| format!("{} names no peer", node_path(&folder)))?;
        // Whoever else answers at its addresses, or has come in the meantime, is not to have the cookie.
        client.await_peer(expected)?;
        let node = client.connections().iter().find(|connection| connection.peer == expected).cloned();
        let Some(node) = node else {
            let found: Vec<_> = client.connections().iter().map(|other| other.peer.to_string()).collect();
            let found = if found.is_empty() { "nobody".into() } else { found.join(" and ") };
            return Err(CommandError::failed(format!(
                "{found} answers where {} says the node is, expected {expected}: the cookie is not sent",
                node_path(&folder)
            ))
            .with_hint("another program has taken the node's address: see that the node runs, or start it again"));
        };
        let cookie = cookie::read(&folder)
            .context(|| format!("cannot read the cookie in {}, with which its owner commands a node", folder.display()))
            .hint(|| "run the command as the user whose node it is; a node of an older version has none")?;
        Ok(Owned { client, node, cookie })
    }
}

/// The caller's own node, whose identity is proven.
pub struct Owned {
    client: Client,
    node: Connection,
    cookie: Cookie,
}

impl Owned {
    /// Has the node do something. Nobody else is sent the cookie.
    ///
    /// # Errors
    /// When it does not answer, or does not obey.
    pub fn ask(&mut self, control: Control) -> Result<Response, ClientError> {
        self.client.ask_at(self.node.clone(), &Request::Control { cookie: self.cookie, control })
    }
}

fn networks(name: Option<&str>) -> Result<Vec<Network>, CommandError> {
    match name {
        Some(name) => Ok(vec![network_option::resolve(name)?]),
        None => Ok(network_option::built_in()),
    }
}

/// Joins the node that runs on this machine, and says in which data folder, and what is written there of it.
fn connect_to(networks: Vec<Network>, data: Option<&Path>) -> Result<(Client, PathBuf, NodeFile), CommandError> {
    let (folder, node) = node_of_this_machine(&networks, data)?;
    let networks = on_network(networks, &node)?;
    let client = Client::connect(&networks, &node.addresses)
        .hint(|| format!("`ocelli node` with process id {} may have ended without a word: start it again", node.pid))?;
    Ok((client, folder, node))
}

/// The node of the data folder that was named, or else of the only default data folder that has one.
fn node_of_this_machine(networks: &[Network], data: Option<&Path>) -> Result<(PathBuf, NodeFile), CommandError> {
    let folders = match data {
        Some(data) => vec![data.to_owned()],
        None => networks.iter().map(|network| folders::data(&network.parameters.name)).collect::<Result<_, _>>()?,
    };
    let mut found = Vec::new();
    for folder in &folders {
        found.extend(NodeFile::read(folder)?.map(|node| (folder.clone(), node)));
    }
    match found.len() {
        0 => Err(no_node(&folders)),
        1 => Ok(found.remove(0)),
        _ => {
            let names: Vec<_> = found.iter().map(|(_, node)| node.network.as_str()).collect();
            Err(CommandError::usage(format!("nodes of several networks run here: {}", names.join(", ")))
                .with_hint("say which one with --network, --data or --peer"))
        }
    }
}

/// The node that runs on this machine for a network, if one does.
///
/// # Errors
/// When there is no home folder, or its `node.json` is of no use.
pub fn local_node(network: &Network) -> Result<Option<NodeFile>, CommandError> {
    Ok(NodeFile::read(&folders::data(&network.parameters.name)?)?)
}

/// Keeps the network that the node says it is on.
fn on_network(networks: Vec<Network>, node: &NodeFile) -> Result<Vec<Network>, CommandError> {
    let names: Vec<_> = networks.iter().map(|network| network.parameters.name.clone()).collect();
    let same: Vec<_> =
        networks.into_iter().filter(|network| network.genesis_hash().to_string() == node.genesis).collect();
    if same.is_empty() {
        return Err(CommandError::failed(format!(
            "the node is on network {} with genesis {}, expected {}",
            node.network,
            node.genesis,
            names.join(" or ")
        ))
        .with_hint("name its network with --network NAME or --network FILE; update the older of the two programs"));
    }
    Ok(same)
}

fn no_node(folders: &[PathBuf]) -> CommandError {
    let files: Vec<_> = folders.iter().map(|folder| node_path(folder)).collect();
    CommandError::failed(format!("found no node that runs on this machine: there is no {}", files.join(" and no ")))
        .with_hint(
            "start one with `ocelli node`, name its data folder with --data, or another node with --peer MULTIADDR",
        )
}

fn node_path(folder: &Path) -> String {
    folder.join(node_file::NAME).display().to_string()
}
