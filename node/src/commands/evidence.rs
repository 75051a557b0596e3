//! What speaks for an answer of nodes whose chain this program does not hold, in words and in JSON.

use std::io::{self, Write as _};

use serde_json::Value;

use crate::client::Client;
use crate::client::account::Known;
use crate::client::chains::Evidence;
use crate::client::confirmation::Incidents;

/// Says on stderr which nodes were left, and why. There is nobody to tell that stderr is closed.
pub fn warn_of_left(client: &Client) {
    for why in client.left() {
        drop(writeln!(io::stderr(), "warning: {why}; it was left"));
    }
}

/// Says on stderr what has happened to transactions that are waited for.
pub fn tell_of(incidents: &Incidents) {
    for (incident, &count) in incidents {
        drop(writeln!(io::stderr(), "{}", incident.words(count)));
    }
}

/// What speaks for a block, for scripts: work in hexadecimal.
pub fn json(evidence: &Evidence) -> Value {
    serde_json::json!({
        "work": format!("{:#x}", evidence.work.0),
        "checked_from": evidence.checked_from,
        "nodes": evidence.nodes,
    })
}

/// By whose word something is said that was not checked.
pub fn by_word_of(nodes: usize) -> String {
    if nodes == 1 {
        "according to 1 node, not checked".into()
    } else {
        format!("according to {nodes} nodes, not checked")
    }
}

/// By what, or by whose word, an account's balance is known.
pub fn of_account(account: &Known) -> String {
    match account.is_checked {
        true => "by the state root in the block's header, and all headers from genesis on".into(),
        false => by_word_of(account.nodes),
    }
}

/// The same for scripts.
pub fn account_json(account: &Known) -> Value {
    serde_json::json!({ "checked": account.is_checked, "nodes": account.nodes })
}

/// A number of confirmations, as people say it.
pub fn confirmations(count: u64) -> String {
    if count == 1 { "1 confirmation".into() } else { format!("{count} confirmations") }
}
