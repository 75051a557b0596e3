//! Headers, bodies, attachments and verdicts: what does not move the chain.

use ocelli_consensus::BlockHash;

use super::*;
use crate::store::{MAX_REASON_BYTES, RefusedBlock};

/// Headers on top of each other that no rule was asked about.
fn headers(network: &Network, count: u64) -> Vec<Header> {
    let mut headers: Vec<Header> = Vec::new();
    for number in 0..count {
        let parent = headers.last().unwrap_or(&network.genesis);
        let next = Header { parent: parent.hash(), height: parent.height + 1, nonce: number, ..parent.clone() };
        headers.push(next);
    }
    headers
}

#[test]
fn headers_come_back_in_the_order_of_their_arrival() {
    let (folder, network) = (Folder::new(), network());
    let store = Store::open(&folder.path(), &network).unwrap();
    let headers = headers(&network, 300);
    store.add_headers(&headers[..200]).unwrap();
    store.add_headers(&[]).unwrap();
    // Known ones, the genesis, and one twice in a batch.
    store.add_headers(&[&headers[100..], &headers[299..], std::slice::from_ref(&network.genesis)].concat()).unwrap();
    drop(store);
    let store = Store::open(&folder.path(), &network).unwrap();
    let other = Header { time: 7, ..headers[0].clone() };
    store.add_header(&other).unwrap();
    let expected: Vec<_> = headers.iter().chain([&other]).map(|header| (header.clone(), BlockStatus::Header)).collect();
    assert_eq!(store.headers().collect::<Result<Vec<_>, _>>().unwrap(), expected);
    assert_eq!(header_tree(&store).len(), 302);
    assert_eq!(store.header(&other.hash()), Ok(Some((other, BlockStatus::Header))));
    assert_eq!(store.header(&BlockHash([7; 32])), Ok(None));
    assert_eq!(store.tip().unwrap().height, 0);
}

#[test]
fn a_block_is_received_once_its_body_is_here() {
    let (folder, network) = (Folder::new(), network());
    let store = Store::open(&folder.path(), &network).unwrap();
    let overlay = Overlay::new(&store).unwrap();
    let block =
        Maker::new(&network, &overlay).classify(0, 1).transfer(1, address(2), 5).classify(2, 3).mine(address(3));
    let (header, body, attachments) = &block;
    let hash = header.hash();
    assert_eq!(store.add_block(&hash, body, attachments, Extent::Body), Err(StoreError::UnknownBlock(hash)));
    assert_eq!(store.set_status(&hash, BlockStatus::Verified, None), Err(StoreError::UnknownBlock(hash)));

    store.add_header(header).unwrap();
    assert_eq!(
        (store.body(1, &hash), store.attachments(1, &hash, body)),
        (Ok(None), Ok(vec![None; attachments.len()]))
    );
    store.add_block(&hash, body, &attachments[..2], Extent::Body).unwrap();
    let mut first = attachments.clone();
    first[2..].fill(None);
    assert_eq!(store.attachments(1, &hash, body), Ok(first), "one task's attachments are missing");
    store.add_block(&hash, body, attachments, Extent::Body).unwrap();
    assert_eq!(store.header(&hash).unwrap().unwrap().1, BlockStatus::Received);
    store.set_status(&hash, BlockStatus::Verified, None).unwrap();
    store.add_block(&hash, body, attachments, Extent::Body).unwrap();
    assert_eq!(store.header(&hash).unwrap().unwrap().1, BlockStatus::Verified);

    drop(overlay);
    drop(store);
    let store = Store::open(&folder.path(), &network).unwrap();
    assert_eq!(store.body(1, &hash), Ok(Some(body.clone())));
    assert_eq!(store.attachments(1, &hash, body), Ok(attachments.clone()));
    assert_eq!(store.attachments(2, &hash, body), Ok(vec![None; attachments.len()]));
    // The same from the files, blobs included, as from memory.
    store.database().flush_cf(store.column(columns::ATTACHMENTS)).unwrap();
    assert_eq!(store.attachments(1, &hash, body), Ok(attachments.clone()));
}

#[test]
fn verdicts_are_kept_and_lifted() {
    let (folder, network) = (Folder::new(), network());
    let store = Store::open(&folder.path(), &network).unwrap();
    let headers = headers(&network, 5);
    let hashes: Vec<_> = headers.iter().map(Header::hash).collect();
    store.add_headers(&headers).unwrap();
    let verdict = |index: usize, reason: &str| RefusedBlock {
        block: hashes[index],
        height: index as u64 + 1,
        reason: reason.into(),
    };
    for index in [3, 1, 2] {
        store.set_status(&hashes[index], BlockStatus::Invalid, Some(&format!("reason {index}"))).unwrap();
    }
    drop(store);
    let store = Store::open(&folder.path(), &network).unwrap();
    assert_eq!(store.verdict(&hashes[1]), Ok(Some(verdict(1, "reason 1"))));
    assert_eq!((store.verdict(&hashes[0]), store.verdict(&BlockHash([1; 32]))), (Ok(None), Ok(None)));
    assert_eq!(store.verdicts(2), Ok(vec![verdict(3, "reason 3"), verdict(2, "reason 2")]));
    assert!(header_tree(&store).is_condemned(&hashes[4]));

    store.set_status(&hashes[1], BlockStatus::Header, None).unwrap();
    store.set_status(&hashes[2], BlockStatus::Received, None).unwrap();
    store.set_status(&hashes[3], BlockStatus::Verified, Some("not kept")).unwrap();
    assert_eq!(store.verdicts(9), Ok(vec![]));
    assert!(!header_tree(&store).is_condemned(&hashes[4]));

    // Cut where a character ends.
    store.set_status(&hashes[0], BlockStatus::Invalid, Some(&format!("x{}", "é".repeat(MAX_REASON_BYTES)))).unwrap();
    let kept = store.verdict(&hashes[0]).unwrap().unwrap().reason;
    assert_eq!(kept, format!("x{}", "é".repeat(MAX_REASON_BYTES / 2 - 1)));
    store.set_status(&hashes[0], BlockStatus::Invalid, None).unwrap();
    assert_eq!(store.verdict(&hashes[0]), Ok(Some(verdict(0, ""))));

    let genesis = network.genesis_hash();
    store.set_status(&genesis, BlockStatus::Invalid, Some("never")).unwrap();
    assert_eq!(store.header(&genesis).unwrap().unwrap().1, BlockStatus::Verified);
    assert_eq!(store.verdict(&genesis), Ok(None));
}
