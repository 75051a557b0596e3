//! What must hold in the end: one tip, and balances that add up to the coins issued.

use std::time::{Duration, Instant};

use ocelli_consensus::parameters::Parameters;
use ocelli_consensus::{Address, Amount, BlockHash};
use ocelli_node::client::ClientError;
use ocelli_node::network::Peer;
use ocelli_protocol::message::{Request, Response};

use super::{Session, say};

/// Between two looks.
const POLL: Duration = Duration::from_millis(300);
/// Accounts asked for at a time: beside what is handed in again, below what a node takes on a connection.
const ACCOUNTS_AT_ONCE: usize = 32;

/// How the network ended.
#[derive(Debug, Default)]
pub struct Settled {
    /// All nodes told of the same tip at a time.
    pub same_tip: bool,
    /// So do the balances on each of them.
    pub balances_add_up: bool,
}

/// Coins that exist after the block of a height: starting balances and rewards.
pub fn issued(parameters: &Parameters, height: u64) -> Amount {
    let starting = parameters.accounts.iter().map(|account| account.balance);
    let rewards = (1..=height).map(|height| parameters.reward_at(height));
    starting.chain(rewards).fold(Amount::ZERO, |sum, amount| Amount(sum.0.saturating_add(amount.0)))
}

/// Waits until `nodes` nodes have one tip, which the follower has too, and looks at all balances there. Blocks may come
/// meanwhile: what is read at different heights is read again, at most for `time` in all.
///
/// # Errors
/// When the network ends, which it does not by itself.
pub fn settle(session: &mut Session, nodes: usize, time: Duration) -> Result<Settled, ClientError> {
    let deadline = Instant::now() + time;
    let mut settled = Settled::default();
    while Instant::now() < deadline {
        session.pump(Instant::now() + POLL)?;
        let peers: Vec<_> = session.client.connections().iter().map(|connection| connection.peer).collect();
        let tip = session.follower.tip();
        if peers.len() < nodes || !tips(session, &peers)?.iter().all(|other| *other == Some(tip)) {
            continue;
        }
        settled.same_tip = true;
        let addresses: Vec<_> = session.follower.addresses().iter().copied().collect();
        let height = session.follower.height();
        let expected = issued(&session.network.parameters, height);
        let mut right = 0;
        for &peer in &peers {
            match total(session, peer, &addresses, height)? {
                Total::At(sum) if sum == expected => right += 1,
                Total::At(sum) => {
                    say(format_args!("{peer}: balances add up to {sum} credits, expected {expected}"));
                    return Ok(settled);
                }
                Total::Moved => break,
            }
        }
        if right == peers.len() {
            settled.balances_add_up = true;
            return Ok(settled);
        }
    }
    Ok(settled)
}

fn tips(session: &mut Session, peers: &[Peer]) -> Result<Vec<Option<BlockHash>>, ClientError> {
    let replies = session.ask(peers.iter().map(|peer| (*peer, Request::Status)))?;
    let tip = |reply| match reply {
        Some(Response::Status(status)) => Some(status.tip),
        _ => None,
    };
    Ok(replies.into_iter().map(tip).collect())
}

enum Total {
    /// The sum of all balances.
    At(Amount),
    /// Another block came, or the node did not answer.
    Moved,
}

fn total(session: &mut Session, peer: Peer, addresses: &[Address], height: u64) -> Result<Total, ClientError> {
    let mut sum = Amount::ZERO;
    for addresses in addresses.chunks(ACCOUNTS_AT_ONCE) {
        let requests = addresses.iter().map(|address| (peer, Request::Account { address: *address }));
        for reply in session.ask(requests)? {
            match reply {
                Some(Response::Account(account)) if account.header.height == height => {
                    sum = Amount(sum.0.saturating_add(account.balance.0));
                }
                _ => return Ok(Total::Moved),
            }
        }
    }
    Ok(Total::At(sum))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coins_are_issued_by_the_reward_schedule() {
        let mut parameters = ocelli_consensus::Network::builtin("local").expect("built in").parameters;
        (parameters.reward, parameters.halving) = (Amount(9), 10);
        let starting = parameters.accounts[0].balance;
        for (height, rewards) in [(0, 0), (1, 9), (10, 90), (11, 94), (20, 130), (21, 132)] {
            assert_eq!(issued(&parameters, height), Amount(starting.0 + rewards), "height {height}");
        }
    }
}
