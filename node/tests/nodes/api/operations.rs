//! `/metrics`, and what docs/operations makes of it.

use std::collections::BTreeSet;
use std::process::Command;

use ocelli_consensus::{Address, Amount};

use super::super::harness::{Maker, TestNode, cpu, easy_network, wait};
use super::super::http::{get, post};
use super::{config, file, node_with, wait_until_ready};

/// All series that a node tells, by the names that queries use.
fn names(text: &str) -> BTreeSet<String> {
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples.map(|line| line.split(['{', ' ']).next().unwrap().to_owned()).collect()
}

#[test]
fn figures_have_help_and_units_and_move() {
    let node = node_with(config(), cpu());
    post(node.api(), "/v1/classify", &file("assets/cifar10/cat-0000.jpg")).ok();
    let answer = get(node.api(), "/metrics");
    assert_eq!(answer.header("content-type"), Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
    let text = answer.text();
    assert!(text.ends_with("# EOF\n"), "{text}");
    for line in [
        "# UNIT process_resident_memory_bytes bytes",
        "# TYPE ocelli_api_requests counter",
        "ocelli_api_requests_total{route=\"/v1/classify\",status=\"200\"} 1",
        "ocelli_inference_computed_pictures_total 1",
        "ocelli_inference_batch_pictures_count 1",
        "ocelli_inference_batch_duration_seconds_count{purpose=\"free\"} 1",
        "ocelli_inference_wait_seconds_count{purpose=\"blocks\"} 0",
        "ocelli_chain_height 0",
        "ocelli_network_peers{direction=\"inbound\"} 0",
        "ocelli_network_received_bytes_total{purpose=\"blocks\"} 0",
        "ocelli_build_info{version=\"0.1.0\",network=\"test\"} 1",
    ] {
        assert!(text.lines().any(|found| found == line), "no line {line:?} in\n{text}");
    }
    // What has no help is of no use to whoever comes upon it.
    let of = |kind: &str| -> BTreeSet<&str> {
        text.lines().filter_map(|line| line.strip_prefix(kind)?.split(' ').next()).collect()
    };
    assert_eq!(of("# HELP "), of("# TYPE "));
    for name in of("# HELP ") {
        let (_, help) = text.split_once(&format!("# HELP {name} ")).unwrap();
        assert!(help.lines().next().unwrap().len() > 5, "{name}");
    }
}

#[test]
fn moves_of_the_tip_are_counted() {
    let node = node_with(config(), cpu());
    let network = easy_network();
    let (peer, _) = super::super::harness::RawPeer::connect(&network, &node);
    let mut maker = Maker::new(&network);
    let (header, data) = maker.make(&[maker.transfer(0, Address([5; 20]), Amount(1_000_000))]);
    peer.announce(&header, &data.body);
    peer.serve_until(&data, header.hash(), || node.status().tip.hash == header.hash());
    wait("the block to be counted", || {
        get(node.api(), "/metrics").text().contains("ocelli_chain_connected_blocks_total 1\n").then_some(())
    });
}

/// Every series that the dashboard and the alerts ask for is there.
#[test]
fn the_dashboard_and_the_alerts_ask_for_what_there_is() {
    let network = easy_network();
    let node = TestNode::with_api_mining(&network, config(), Address([1; 20]));
    wait_until_ready(&node);
    post(node.api(), "/v1/classify", &file("assets/cifar10/cat-0000.jpg")).ok();
    let text = get(node.api(), "/metrics").text();
    for counter in ["ocelli_miner_found_blocks", "ocelli_miner_stale_blocks"] {
        assert!(text.contains(&format!("# TYPE {counter} counter\n")), "{text}");
    }
    let there = names(&text);
    let mut asked = BTreeSet::new();
    for page in ["grafana.json", "alerts.yml"] {
        let text = String::from_utf8(file(&format!("docs/operations/{page}"))).unwrap();
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        asked.extend(
            words.filter(|word| word.starts_with("ocelli_") || word.starts_with("process_")).map(str::to_owned),
        );
    }
    assert!(asked.len() > 20, "{asked:?}");
    let missing: Vec<_> = asked.difference(&there).collect();
    assert!(missing.is_empty(), "{missing:?} of {there:?}");
}

/// Where there is no promtool (Debian's package `prometheus`), the series are compared above in any case.
#[test]
fn promtool_takes_the_alerts() {
    let promtool = std::env::var("PROMTOOL").unwrap_or_else(|_| "promtool".into());
    if !Command::new(&promtool).arg("--version").output().is_ok_and(|output| output.status.success()) {
        return;
    }
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations");
    for args in [["check", "rules", "alerts.yml"], ["test", "rules", "alerts-test.yml"]] {
        let output = Command::new(&promtool).args(args).current_dir(folder).output().unwrap();
        let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
        assert!(output.status.success() && said.contains("SUCCESS"), "{said}");
    }
}
