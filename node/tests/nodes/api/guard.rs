//! Who may ask what, and what clients cannot do to others.

use std::fs;
use std::sync::mpsc::{Receiver, Sender, channel};

use ocelli_model::{Backend, BackendError, Model};
use ocelli_node::api::{Config, MAX_CONNECTIONS, TOKEN_FILE};
use ocelli_node::inference::InferenceLimits;

use super::super::harness::{TestNode, cpu, easy_network, wait};
use super::super::http::{Connection, ask, get, post};
use super::{config, file, node, node_with, patient, token, wait_until_ready};

const CAT: &str = "assets/cifar10/cat-0000.jpg";

#[test]
fn requests_by_another_name_and_from_other_pages_are_refused() {
    let node = node();
    let port = node.api().port();
    let cat = file(CAT);
    let with = |name: &str, value: &str| ask(node.api(), "POST", "/v1/classify", &[(name, value)], &cat);
    // Whose name was made to lead here.
    for host in
        ["evil.example", &format!("evil.example:{port}"), "localhost.evil.example", "127.0.0.1.evil.example", "", "a b"]
    {
        let problem = with("Host", host).problem(403);
        assert!(problem["detail"].as_str().unwrap().contains("expected localhost or an IP address"), "{problem}");
        assert!(problem["hint"].as_str().unwrap().contains("--api-host"), "{problem}");
    }
    for host in
        ["localhost", "LOCALHOST", &format!("localhost:{port}"), "127.0.0.1", &format!("[::1]:{port}"), "192.0.2.1"]
    {
        with("Host", host).ok();
    }
    for origin in ["https://evil.example", "null", "file://", &format!("http://localhost:{}", port - 1)] {
        let problem = with("Origin", origin).problem(403);
        assert!(problem["hint"].as_str().unwrap().contains("--api-origin"), "{problem}");
    }
    // The node's own page.
    let own = format!("http://127.0.0.1:{port}");
    let answer = with("Origin", &own);
    answer.ok();
    assert_eq!(answer.header("access-control-allow-origin"), None);
    // Without any name there is none to check.
    let mut connection = Connection::open(node.api());
    connection.send(b"GET /v1/models HTTP/1.0\r\n\r\n");
    assert_eq!(connection.head().status, 403);
}

#[test]
fn pages_that_the_owner_names_are_let_in() {
    let origin = "https://pages.example";
    let node =
        node_with(Config { origins: vec![origin.into()], hosts: vec!["Node.example".into()], ..config() }, cpu());
    let headers = [("Origin", origin), ("Access-Control-Request-Method", "POST")];
    let answer = ask(node.api(), "OPTIONS", "/v1/classify", &headers, &[]);
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, Some(origin)));
    let others = [("Origin", "https://other.example"), ("Access-Control-Request-Method", "POST")];
    let answer = ask(node.api(), "OPTIONS", "/v1/classify", &others, &[]);
    assert_eq!(answer.header("access-control-allow-origin"), None);
    let answer = ask(node.api(), "GET", "/v1/models", &[("Origin", origin), ("Host", "node.example")], &[]);
    answer.ok();
    assert_eq!(answer.header("access-control-allow-origin"), Some(origin));
}

#[test]
fn beyond_this_machine_work_needs_the_token() {
    let node = TestNode::with_api(&easy_network(), Config { listen: "0.0.0.0:0".parse().unwrap(), ..config() }, cpu());
    wait_until_ready(&node);
    let cat = file(CAT);
    let token = fs::read_to_string(node.folder().join(TOKEN_FILE)).unwrap();
    let token = token.trim_end();
    let with = |authorization: &str| ask(node.api(), "POST", "/v1/classify", &[("Authorization", authorization)], &cat);
    let answer = post(node.api(), "/v1/classify", &cat);
    assert!(answer.problem(401)["hint"].as_str().unwrap().contains("api-token"));
    assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    for wrong in [token, "Bearer", "Bearer ", &format!("Basic {token}"), &format!("Bearer {}", &token[1..]), "Bearer x"]
    {
        with(wrong).problem(401);
    }
    with(&format!("Bearer {token}")).ok();
    with(&format!("bearer {token}")).ok();
    // What everybody may know is read without.
    get(node.api(), "/v1/models").ok();
    // And not too often.
    let mut connection = Connection::open(node.api());
    let refused = (0..10_000).find_map(|_| {
        connection.request("GET", "/v1/models", &[], &[]);
        Some(connection.answer()).filter(|answer| answer.status != 200)
    });
    let refused = refused.expect("so many are too many");
    refused.problem(429);
    assert_eq!(refused.header("retry-after"), Some("1"));
    with(&format!("Bearer {token}")).ok();
}

#[test]
fn bodies_are_bounded() {
    let node = node();
    let mut connection = Connection::open(node.api());
    connection.send(b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nContent-Length: 67108865\r\n\r\n");
    let problem = connection.answer().problem(413);
    assert_eq!(problem["detail"], "the body has 67108865 bytes, more than 67108864");
    let answer = ask(node.api(), "POST", "/v1/classify", &[("Content-Encoding", "gzip")], b"x");
    assert_eq!(answer.problem(415)["detail"], "found a body compressed by \"gzip\"");
}

/// Begins to send a body of so many bytes, and returns when the node reads it.
fn begin_body(node: &TestNode, bytes: usize) -> Connection {
    let mut connection = Connection::open(node.api());
    let head = "POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length:";
    connection.send(format!("{head} {bytes}\r\n\r\n").as_bytes());
    assert_eq!(connection.head().status, 100);
    connection
}

/// Four that announce and send as much as all bodies together may have.
#[test]
fn large_bodies_hold_up_nobody() {
    const LARGEST: usize = 64 << 20;
    let node = node_with(patient(), cpu());
    let cat = file(CAT);
    let mut large: Vec<_> = (0..4).map(|_| begin_body(&node, LARGEST)).collect();
    assert_eq!(post(node.api(), "/v1/classify", &cat).ok()["label"], "cat");
    let most = vec![0; LARGEST - 1];
    large.iter_mut().for_each(|connection| connection.send(&most));
    assert_eq!(post(node.api(), "/v1/classify", &cat).ok()["label"], "cat");
    // One of them has given way; the others are read to their ends.
    let mut statuses: Vec<_> = (large.iter_mut())
        .map(|connection| {
            connection.send_if_open(&[0]);
            connection.answer().status
        })
        .collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [415, 415, 415, 503]);
}

#[test]
fn idle_and_slow_connections_hold_up_nobody() {
    // Both ends of each are here.
    ocelli_node::node::open_files::raise_limit(512, 2 * MAX_CONNECTIONS + 512).unwrap();
    let node = node_with(patient(), cpu());
    let cat = file(CAT);
    // Some say nothing, some begin a head, and half a body: more than there are places for pictures.
    let mut idle: Vec<_> = (0..600).map(|_| Connection::open(node.api())).collect();
    for connection in idle.iter_mut().skip(1).step_by(2) {
        connection.send(b"POST /v1/classify HTTP/1.1\r\nHost: localhost\r\nX-");
    }
    let begun = || {
        let mut connection = begin_body(&node, cat.len());
        connection.send(&cat[..1]);
        connection
    };
    idle.extend((0..600).map(|_| begun()));
    assert_eq!(post(node.api(), "/v1/classify", &cat).ok()["label"], "cat");
    // The oldest of too many makes room.
    let mut more = Vec::new();
    while idle.len() + more.len() <= MAX_CONNECTIONS {
        more.push(Connection::open(node.api()));
    }
    assert_eq!(post(node.api(), "/v1/classify", &cat).ok()["label"], "cat");
    assert!(idle[0].is_ended());
}

/// All connections send bodies, a byte now and then.
#[test]
fn slow_bodies_shut_nobody_out() {
    // Both ends of each are here.
    ocelli_node::node::open_files::raise_limit(512, 2 * MAX_CONNECTIONS + 512).unwrap();
    let node = node_with(patient(), cpu());
    let cat = file(CAT);
    let mut slow: Vec<_> = (0..MAX_CONNECTIONS).map(|_| begin_body(&node, cat.len())).collect();
    assert_eq!(post(node.api(), "/v1/classify", &cat).ok()["label"], "cat");
    assert!(slow[0].is_ended(), "the one that is furthest behind");
    // The others are answered when they have sent all.
    let last = slow.last_mut().unwrap();
    last.send(&cat);
    assert_eq!(last.answer().ok()["label"], "cat");
}

/// All places to listen are taken by others: the owner has places of its own, also where all callers look alike.
#[test]
fn listeners_leave_places_for_the_owner() {
    // Both ends of each are here.
    ocelli_node::node::open_files::raise_limit(512, 2 * MAX_CONNECTIONS + 512).unwrap();
    let node = node();
    let authorization = token(&node);
    let listen = |headers: &[(&str, &str)]| {
        let mut connection = Connection::open(node.api());
        connection.request("GET", "/v1/events", headers, &[]);
        let status = connection.head().status;
        (connection, status)
    };
    let mut listening: Vec<_> =
        (0..MAX_CONNECTIONS).map_while(|_| Some(listen(&[])).filter(|(_, status)| *status == 200)).collect();
    assert!((512..MAX_CONNECTIONS).contains(&listening.len()), "{}", listening.len());
    get(node.api(), "/v1/events").problem(503);
    let owner = [("Authorization", authorization.as_str())];
    assert_eq!(listen(&owner).1, 200);
    listening.pop();
    let (_next, status) = wait("a place", || Some(listen(&[])).filter(|(_, status)| *status == 200));
    assert_eq!(status, 200);
}

/// A device that runs nothing of one picture or more until it is let go.
struct Held {
    good: Box<dyn Backend>,
    begun: Sender<()>,
    until: Receiver<()>,
    is_held: std::sync::Arc<std::sync::atomic::AtomicBool>,
}

impl Backend for Held {
    fn name(&self) -> String {
        "a device that is held".into()
    }

    fn kernel_name(&self) -> String {
        self.good.kernel_name()
    }

    fn threads(&self) -> usize {
        self.good.threads()
    }

    fn logits(&mut self, model: &Model, images: &[&[u8]]) -> Result<Vec<Vec<i32>>, BackendError> {
        if self.is_held.load(std::sync::atomic::Ordering::SeqCst) {
            self.begun.send(()).unwrap();
            self.until.recv().unwrap();
        }
        self.good.logits(model, images)
    }
}

#[test]
fn a_full_queue_is_said_with_when_to_come_back() {
    let (begun, begins) = channel();
    let (let_go, until) = channel();
    let is_held = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let device = Box::new(Held { good: cpu(), begun, until, is_held: is_held.clone() });
    // Each counts as 4 KiB.
    let limits = InferenceLimits { free: 8 << 10, ..InferenceLimits::default() };
    let node = TestNode::with_api_of(&easy_network(), config(), device, limits);
    wait_until_ready(&node);
    is_held.store(true, std::sync::atomic::Ordering::SeqCst);
    let pictures =
        ["cat-0000.jpg", "dog-0001.jpg", "ship-0001.jpg"].map(|name| file(&format!("assets/cifar10/{name}")));
    let mut first = Connection::open(node.api());
    first.request("POST", "/v1/classify", &[], &pictures[0]);
    begins.recv().unwrap();
    let mut second = Connection::open(node.api());
    second.request("POST", "/v1/classify", &[], &pictures[1]);
    wait("both to wait", || (node.status().inference.queued == 2).then_some(()));
    let full = post(node.api(), "/v1/classify", &pictures[2]);
    let problem = full.problem(503);
    assert_eq!(problem["detail"], "inference is busy: 8192 bytes of pictures wait, 4096 more would exceed 8192");
    assert_eq!(full.header("retry-after"), Some("1"));
    is_held.store(false, std::sync::atomic::Ordering::SeqCst);
    let_go.send(()).unwrap();
    assert_eq!(first.answer().ok()["label"], "cat");
    second.answer().ok();
    post(node.api(), "/v1/classify", &pictures[2]).ok();
}
