//! What is seen of the network, through a node that runs here or any other.

use ocelli_protocol::message::{NodeStatus, Reachability, Request, Response, RulesStatus};

use super::Finding;
use crate::chain::MAX_AHEAD_SECONDS;
use crate::client::{Client, printable};
use crate::clock::Clock;
use crate::commands::error::CommandError;
use crate::commands::submit::DISCOVERY_TIME;

/// Nodes whose clocks are looked at.
const CLOCKS: usize = 8;
/// So far off, in milliseconds, a clock is worth setting.
const GOOD_OFFSET: u64 = 2_000;

/// Looks through the first node; `own` is the peer id of the node on this machine, if that is whom the client has asked for.
pub(super) fn look(client: &mut Client, own: Option<&str>) -> Vec<Finding> {
    let status = match client.node_status() {
        Ok(status) => status,
        Err(error) => {
            let fix = "look at the node's log, or start it again";
            return vec![Finding::failed("node", CommandError::from(error).one_line(), fix)];
        }
    };
    let is_own = own == Some(status.identity.peer_id.as_str());
    let mut findings = Vec::new();
    if is_own {
        findings.extend([reachability(&status.reachability), peers(&status), sync(&status), rules(&status.rules)]);
    } else {
        findings.push(Finding::ok(
            "network",
            format!(
                "{} is reached: a node of network {} at block {}",
                client.connections().first().map(|connection| connection.address.as_str()).unwrap_or_default(),
                printable(&status.identity.network),
                status.tip.height
            ),
        ));
        let fix =
            "start one with `ocelli node`; what only a running node knows is not checked: reachability, peers, sync";
        findings.push(Finding::warning("node", "no node runs on this machine with this data folder", fix));
    }
    findings.push(clock(&offsets(client, own)));
    findings
}

fn reachability(reachability: &Reachability) -> Finding {
    match reachability {
        Reachability::Public(addresses) => Finding::ok("reachability", format!("reachable at {}", list(addresses))),
        Reachability::Relayed(addresses) => Finding::warning(
            "reachability",
            format!("behind a NAT or firewall, using a relay: {}", list(addresses)),
            "nothing must be done; open the node's TCP and UDP ports to be reached directly",
        ),
        Reachability::Unknown => Finding::warning(
            "reachability",
            "not known yet: no peer has tried to dial the node",
            "wait some minutes, and see that the node has peers",
        ),
        Reachability::Unreachable { advice } => Finding::warning(
            "reachability",
            "others cannot dial the node, which works all the same with those that it dials",
            printable(advice),
        ),
    }
}

fn peers(status: &NodeStatus) -> Finding {
    let (count, outbound) = (status.peers.total(), status.peers.dialled);
    match count {
        0 => Finding::failed(
            "peers",
            "the node has none",
            "join through a node you know with --peer MULTIADDR; `ocelli peers list` and the node's log say which \
             dials fail and why",
        ),
        1 | 2 => Finding::warning(
            "peers",
            format!("{count}, {outbound} of them dialled by the node"),
            "more are safer, since a few can agree on what not to tell: add some with `ocelli peers add MULTIADDR`",
        ),
        _ => Finding::ok("peers", format!("{count}, {outbound} of them dialled by the node")),
    }
}

fn sync(status: &NodeStatus) -> Finding {
    if status.sync.waiting_for.is_empty() {
        return Finding::ok("sync", format!("{} at block {}", printable(&status.sync.state), status.tip.height));
    }
    let waits: Vec<_> = status.sync.waiting_for.iter().map(|what| printable(what)).collect();
    Finding::warning(
        "sync",
        format!("at block {}, waits for {}", status.tip.height, waits.join(", ")),
        "look again in a minute: a block more each time is progress",
    )
}

fn rules(status: &RulesStatus) -> Finding {
    match &status.update {
        Some(why) => {
            Finding::failed("rules", printable(why), "update this node: it neither mines nor confirms anything")
        }
        None => Finding::ok("rules", crate::commands::status::rules(status)),
    }
}

/// How far the clocks of other nodes are ahead of this machine's, in milliseconds.
fn offsets(client: &mut Client, own: Option<&str>) -> Vec<i64> {
    // Whoever cannot be found or does not answer is left out.
    drop(client.find_nodes(CLOCKS, DISCOVERY_TIME));
    let others: Vec<_> = client
        .connections()
        .iter()
        .filter(|other| Some(other.peer.to_string().as_str()) != own)
        .take(CLOCKS)
        .cloned()
        .collect();
    let (mut offsets, clock) = (Vec::new(), Clock::system());
    for other in others {
        let before = clock.unix_millis();
        let Ok(Response::NodeStatus(status)) = client.ask_at(other, &Request::NodeStatus) else { continue };
        let after = clock.unix_millis();
        // The answer was made about half-way between.
        let here = i128::from(before) + (i128::from(after) - i128::from(before)) / 2;
        offsets.push(i64::try_from(i128::from(status.time) - here).unwrap_or(i64::MAX));
    }
    offsets
}

fn clock(offsets: &[i64]) -> Finding {
    let mut sorted = offsets.to_vec();
    sorted.sort_unstable();
    let Some(median) = sorted.get(sorted.len() / 2).copied() else {
        return Finding::warning(
            "clock",
            "there is no other node to compare with",
            "see that the clock is set: `timedatectl` shows whether it follows a time server",
        );
    };
    let words = if median < 0 { "ahead of" } else { "behind" };
    let count = sorted.len();
    let found =
        format!("{:.1} s {words} the clocks of {count} other nodes (median)", median.unsigned_abs() as f64 / 1000.0);
    let fix = "set the clock: `timedatectl set-ntp true`";
    match median.unsigned_abs() {
        0..=GOOD_OFFSET => Finding::ok("clock", found),
        offset if offset < MAX_AHEAD_SECONDS * 1000 / 2 => Finding::warning("clock", found, fix),
        _ => Finding::failed("clock", format!("{found}; blocks further ahead than {MAX_AHEAD_SECONDS} s wait"), fix),
    }
}

fn list(addresses: &[String]) -> String {
    addresses.iter().map(|address| printable(address)).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::Health;
    use super::*;

    #[test]
    fn clocks_are_judged_by_the_median() {
        let health = |offsets: &[i64]| clock(offsets).health;
        assert_eq!(health(&[]), Health::Warning);
        assert_eq!(health(&[0, i64::MAX, -5]), Health::Ok, "one liar does not matter");
        assert_eq!(health(&[2_000, -2_000, 2_001]), Health::Ok);
        assert_eq!(health(&[-2_001]), Health::Warning);
        assert_eq!(health(&[-15_000]), Health::Failed);
        assert_eq!(health(&[i64::MIN]), Health::Failed);
        assert!(clock(&[-15_000]).found.starts_with("15.0 s ahead of the clocks of 1 other nodes"));
        assert!(clock(&[40_000]).found.starts_with("40.0 s behind"));
    }

    #[test]
    fn a_lonely_node_has_failed_and_one_behind_a_router_has_not() {
        assert_eq!(peers(&NodeStatus::default()).health, Health::Failed);
        let advice = "open TCP port 3297".to_owned();
        let unreachable = reachability(&Reachability::Unreachable { advice: advice.clone() });
        assert_eq!((unreachable.health, unreachable.fix), (Health::Warning, Some(advice)));
        assert_eq!(reachability(&Reachability::Public(vec!["/ip4/1.2.3.4/tcp/1".into()])).health, Health::Ok);
    }
}
