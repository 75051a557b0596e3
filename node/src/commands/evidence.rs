//! What speaks for an answer of nodes whose chain this program does not hold, in words and in JSON.

use std::io::{self, Write as _};

use serde_json::Value;

use crate::client::Client;
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

/// A number of confirmations, as people say it.
pub fn confirmations(count: u64) -> String {
    if count == 1 { "1 confirmation".into() } else { format!("{count} confirmations") }
}
