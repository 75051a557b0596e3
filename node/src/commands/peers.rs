//! `ocelli peers`.

use ocelli_protocol::message::{Ban, BanSubject, ConnectedPeer, Control, MAX_TEXT_BYTES, PeerList, Response};
use serde_json::{Value, json};

use super::error::{CommandError, Explain as _};
use super::output::Printer;
use super::peer_option::OwnNode;
use super::status::duration;
use crate::client::printable;
use crate::network;

/// How long a ban lasts if nobody says.
const DEFAULT_BAN: &str = "1d";

/// The longest ban: what is meant to last longer is a firewall's rule.
const MAX_BAN_SECONDS: u64 = 366 * 86_400;

/// See and change who a node talks to
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// List the connected peers of the node on this machine, and its bans
    List {
        #[command(flatten)]
        node: OwnNode,
    },
    /// Disconnect a peer or an address, and keep it out for a time
    Ban {
        /// A peer id, as `ocelli peers list` shows them, or an IP address
        #[arg(value_name = "PEERID|IP")]
        subject: Subject,

        /// For how long: a number of seconds, or with s, m, h or d after it
        #[arg(long = "for", value_name = "DURATION", default_value = DEFAULT_BAN)]
        time: BanTime,

        /// Why, for the list of bans
        #[arg(long, value_name = "TEXT", default_value = "by hand", value_parser = reason)]
        reason: String,

        #[command(flatten)]
        node: OwnNode,
    },
    /// Let a peer or an address in again
    Unban {
        /// A peer id or an IP address that is banned
        #[arg(value_name = "PEERID|IP")]
        subject: Subject,

        #[command(flatten)]
        node: OwnNode,
    },
    /// Connect to the node at a multiaddr, and remember it
    Add {
        /// For example /ip4/192.0.2.1/tcp/3297 or /dns4/node.example.org/udp/3297/quic-v1
        #[arg(value_name = "MULTIADDR")]
        address: String,

        #[command(flatten)]
        node: OwnNode,
    },
}

/// A peer id or an IP address, as the command line has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject(BanSubject);

impl std::str::FromStr for Subject {
    type Err = network::NetworkError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(match text.parse()? {
            network::BanSubject::Peer(peer) => BanSubject::Peer(peer.to_string()),
            network::BanSubject::Ip(ip) => BanSubject::Address(ip),
        }))
    }
}

/// How long a ban lasts, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BanTime(u64);

impl std::str::FromStr for BanTime {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let unit = match &text[digits.len()..] {
            "" | "s" => Some(1),
            "m" => Some(60),
            "h" => Some(3600),
            "d" => Some(86_400),
            _ => None,
        };
        let seconds = unit.and_then(|unit| digits.parse::<u64>().ok()?.checked_mul(unit));
        match seconds {
            Some(seconds) if (1..=MAX_BAN_SECONDS).contains(&seconds) => Ok(Self(seconds)),
            Some(_) => Err("a ban lasts from one second to 366 days".into()),
            None => Err("expected a number with s, m, h or d after it, such as 90m".into()),
        }
    }
}

/// Runs the command.
///
/// # Errors
/// When the node cannot be asked, or does not obey.
pub fn run(command: &Command, output: &mut Printer) -> Result<(), CommandError> {
    let (node, control) = match command {
        Command::List { node } => return list(node, output),
        Command::Ban { subject, time, reason, node } => {
            (node, Control::Ban { subject: subject.0.clone(), seconds: time.0, reason: reason.clone() })
        }
        Command::Unban { subject, node } => (node, Control::Unban { subject: subject.0.clone() }),
        Command::Add { address, node } => (node, Control::Add { address: address.clone() }),
    };
    let done = node.command(control).hint(|| "`ocelli peers list` shows peers and bans")?;
    let done = printable(&done);
    if output.is_json() { output.json(&json!({ "done": done })) } else { output.line(done) }
}

fn reason(text: &str) -> Result<String, String> {
    if text.len() <= MAX_TEXT_BYTES { Ok(text.into()) } else { Err(format!("at most {MAX_TEXT_BYTES} bytes")) }
}

fn list(node: &OwnNode, output: &mut Printer) -> Result<(), CommandError> {
    let list = match node.connect()?.ask(Control::Peers)? {
        Response::Peers(list) => *list,
        _ => return Err(CommandError::failed("the node answers something else; update the older of the two programs")),
    };
    if output.is_json() { output.json(&to_json(&list)) } else { print(&list, output) }
}

fn to_json(list: &PeerList) -> Value {
    let peers: Vec<_> = list
        .peers
        .iter()
        .map(|peer| {
            json!({
                "id": peer.id,
                "address": peer.address,
                "inbound": peer.inbound,
                "light": peer.light,
                "agent": peer.agent,
                "height": peer.height,
                // Thousandths, for display.
                "score": peer.score as f64 / 1000.0,
                "points": peer.points,
                "connected_seconds": peer.seconds,
                "round_trip_ms": peer.round_trip.map(|micros| micros as f64 / 1000.0),
            })
        })
        .collect();
    let bans: Vec<_> = list
        .bans
        .iter()
        .map(|ban| json!({ "subject": name(&ban.subject), "reason": ban.reason, "seconds_left": ban.seconds_left }))
        .collect();
    json!({ "peers": peers, "bans": bans, "known_addresses": list.known_addresses })
}

fn print(list: &PeerList, output: &mut Printer) -> Result<(), CommandError> {
    let inbound = list.peers.iter().filter(|peer| peer.inbound).count();
    output.line(format_args!(
        "{} peers, {inbound} of them dialled this node; {} addresses known, {} bans",
        list.peers.len(),
        list.known_addresses,
        list.bans.len()
    ))?;
    for peer in &list.peers {
        output.line(row(peer))?;
    }
    for Ban { subject, reason, seconds_left } in &list.bans {
        let (subject, reason) = (printable(&name(subject)), printable(reason));
        output.line(format_args!("banned  {subject}  for {} more: {reason}", duration(*seconds_left)))?;
    }
    Ok(())
}

fn row(peer: &ConnectedPeer) -> String {
    let direction = if peer.inbound { "from" } else { "to  " };
    let what = match (peer.light, peer.height) {
        (true, _) => "only asks".into(),
        (false, Some(height)) => format!("block {height}"),
        (false, None) => "height unknown".into(),
    };
    let mut text = format!(
        "{direction}  {}  {}  {}, {what}, score {:.1}, for {}",
        printable(&peer.id),
        printable(&peer.address),
        printable(&peer.agent),
        peer.score as f64 / 1000.0,
        duration(peer.seconds)
    );
    if peer.points > 0 {
        text.push_str(&format!(", {} of 100 points for misbehaviour", peer.points));
    }
    text
}

fn name(subject: &BanSubject) -> String {
    match subject {
        BanSubject::Peer(id) => id.clone(),
        BanSubject::Address(ip) => ip.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_bans() {
        for (text, expected) in [
            ("90", Some(90)),
            ("90s", Some(90)),
            ("2m", Some(120)),
            ("1h", Some(3600)),
            ("366d", Some(MAX_BAN_SECONDS)),
            ("367d", None),
            ("0", None),
            ("", None),
            ("d", None),
            ("-1d", None),
            ("1w", None),
            ("1.5h", None),
            ("999999999999999999d", None),
        ] {
            assert_eq!(text.parse::<BanTime>().ok().map(|time| time.0), expected, "{text}");
        }
    }
}
