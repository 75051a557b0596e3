//! How long clients may take. Each time is short where a test waits for its end, and all others are so long that none ends.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use ocelli_node::api::{Config, Timeouts};

use super::super::harness::{TestNode, cpu, easy_network, wait};
use super::super::http::{Connection, get};
use super::{config, patient};

const SHORT: Duration = Duration::from_millis(30);

fn node(timeouts: Timeouts) -> TestNode {
    TestNode::with_api(&easy_network(), Config { timeouts, ..config() }, cpu())
}

#[test]
fn the_defaults_are_those_of_the_docs() {
    let Timeouts { head, silence, behind, slowest, unread } = Timeouts::default();
    let docs = String::from_utf8(super::file("docs/api.md")).unwrap();
    for said in [
        format!("asks nothing for {} s", head.as_secs()),
        format!("pauses for {} s", silence.as_secs()),
        format!("{} s behind {} KiB a second", behind.as_secs(), slowest >> 10),
        format!("reads nothing for {} s", unread.as_secs()),
    ] {
        assert!(docs.split_whitespace().collect::<Vec<_>>().join(" ").contains(&said), "{said}");
    }
}

#[test]
fn who_asks_nothing_is_cut_off() {
    let node = node(Timeouts { head: SHORT, ..patient().timeouts });
    for begun in ["", "GET", "GET /v1/mempool HTTP/1.1\r\nHost: localhost\r\n"] {
        let mut connection = Connection::open(node.api());
        connection.send(begun.as_bytes());
        assert!(connection.is_ended(), "{begun:?}");
    }
    // One that asks nothing more, if its first head is not too slow as well.
    let until_its_end = || {
        let (mut stream, mut text) = (TcpStream::connect(node.api()).unwrap(), String::new());
        stream.write_all(b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n").ok()?;
        stream.read_to_string(&mut text).ok()?;
        text.starts_with("HTTP/1.1 200").then_some(())
    };
    wait("an answer, and the end of the connection", until_its_end);
}

#[test]
fn a_body_that_stops_is_given_up() {
    for short in [
        Timeouts { silence: SHORT, ..patient().timeouts },
        // Though it is not silent for long.
        Timeouts { behind: SHORT, ..patient().timeouts },
    ] {
        let node = node(short);
        for route in ["/v1/classify", "/v1/transactions", "/v2/models/cifar10-cnn/infer"] {
            let mut connection = Connection::open(node.api());
            let head = format!("POST {route} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n");
            connection.send(format!("{head}begun").as_bytes());
            let problem = connection.answer().problem(408);
            assert_eq!(problem["type"], "urn:ocelli:problem:slow");
            let detail = problem["detail"].as_str().unwrap();
            assert!(detail.starts_with("the body came too slowly: "), "{detail}");
            assert!(connection.is_ended(), "what comes now would be taken for another request");
        }
    }
}

#[test]
fn who_reads_nothing_is_cut_off() {
    let node = node(Timeouts { unread: SHORT, ..patient().timeouts });
    let file = get(node.api(), "/v1/models/cifar10-cnn/file");
    assert_eq!(file.status, 200);
    // Many times what the system holds for a connection.
    let mut stream = TcpStream::connect(node.api()).unwrap();
    let request = "GET /v1/models/cifar10-cnn/file HTTP/1.1\r\nHost: localhost\r\n\r\n";
    // It may be ended before all of that is sent.
    drop(stream.write_all(request.repeat((256 << 20) / file.body.len()).as_bytes()));
    // Only who asks this is left.
    wait("the connection to be ended", || {
        get(node.api(), "/metrics").text().lines().any(|line| line == "ocelli_api_connections 1").then_some(())
    });
}
