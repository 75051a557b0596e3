//! Any bytes to every decoder of what peers send: refused, or encoded again to the same bytes. The first byte says which.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ocelli_consensus::codec::{decode, encode};
use ocelli_consensus::{Action, Address, Amount, Block, Body, CompactTarget, Header, Network, Parameters, Transaction};
use ocelli_protocol::message::{Announcement, BlockData, MAX_RESPONSE_BYTES, Request, Response, Submission};

fuzz_target!(|bytes: &[u8]| {
    let Some((which, bytes)) = bytes.split_first() else { return };
    match which % 14 {
        0 => same::<Transaction>(bytes),
        1 => same::<Header>(bytes),
        2 => same::<Block>(bytes),
        3 => same::<Body>(bytes),
        4 => same::<Action>(bytes),
        5 => same::<Parameters>(bytes),
        6 => same::<BlockData>(bytes),
        7 => message(bytes, Announcement::from_bytes, Announcement::to_bytes),
        8 => message(bytes, Submission::from_bytes, Submission::to_bytes),
        9 => message(bytes, Request::from_bytes, Request::to_bytes),
        10 => message(bytes, Response::from_bytes, Response::to_bytes),
        11 => text(bytes),
        12 => target(bytes),
        _ => drop(std::str::from_utf8(bytes).map(Network::from_toml)),
    }
});

fn same<T: bincode::Encode + bincode::Decode<()>>(bytes: &[u8]) {
    if let Ok(value) = decode::<T>(bytes, MAX_RESPONSE_BYTES) {
        assert_eq!(encode(&value), bytes);
    }
}

fn message<T, E>(bytes: &[u8], read: impl Fn(&[u8]) -> Result<T, E>, write: impl Fn(&T) -> Vec<u8>) {
    if let Ok(value) = read(bytes) {
        assert_eq!(write(&value), bytes);
    }
}

fn text(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(address) = Address::from_text(text, "toc") {
        // Bech32m may be all upper case too.
        assert_eq!(address.to_text("toc"), text.to_lowercase());
    }
    if let Ok(amount) = text.parse::<Amount>() {
        assert_eq!(amount.to_string().parse::<Amount>(), Ok(amount));
    }
}

fn target(bytes: &[u8]) {
    let Ok(bytes) = bytes.try_into() else { return };
    let compact = CompactTarget(u32::from_le_bytes(bytes));
    if let Ok(target) = compact.to_target() {
        assert_eq!(target.to_compact_lossy(), compact, "canonical");
        let _ = target.work();
    }
}
