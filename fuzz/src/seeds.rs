//! Writes the seeds of the targets that read bytes: a small example of each kind of message.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use ocelli_consensus::codec::encode;
use ocelli_consensus::{Address, Block, BlockHash, ModelId, TxId, U256};
use ocelli_fuzz::chain::{Chain, example_block, example_parameters};
use ocelli_protocol::ledger::{Place, Side};
use ocelli_protocol::message::{
    Announcement, BlockData, BlockId, ChainStatus, Control, Cookie, FaucetClaim, FaucetRequest, FeeSuggestion, NextRules, NodeStatus,
    Proofs, Request, Response, ShortId, Submission, SubmitReply, TransactionStatus,
};

fn main() -> std::io::Result<()> {
    let chain = Chain::new(example_parameters());
    let block = example_block(&chain);
    let attachments: Vec<Option<Arc<[u8]>>> = block.attachments.iter().map(|one| one.clone().map(Arc::from)).collect();
    let data = BlockData { body: block.body.clone(), attachments: attachments.clone() };
    let (transaction, _) = block.body.transactions[1].clone();
    let submission = Submission { transaction: transaction.clone(), attachment: attachments[1].clone() };
    let (hash, genesis) = (block.header.hash(), chain.genesis);
    let status = ChainStatus { genesis, height: 1, tip: hash, work: U256::from(2u8), next_rules: Some(NextRules { height: 9, version: 2 }) };
    let requests = [
        Request::Status,
        Request::Headers { locator: vec![hash, genesis], limit: 2 },
        Request::Blocks { hashes: vec![hash] },
        Request::Transactions { block: hash, indexes: vec![0, 1] },
        Request::Submit(submission.clone()),
        Request::Transaction { txid: TxId([1; 32]) },
        Request::Block { by: BlockId::Hash(BlockHash([2; 32])) },
        Request::Account { address: Address([3; 20]) },
        Request::NodeStatus,
        Request::Fee { blocks: 2 },
        Request::TransactionIds { block: hash },
        Request::File { model: ModelId([4; 32]), chunk: 1 },
        Request::Models { from: ModelId([0; 32]), limit: 64 },
        Request::Upload { sender: Address([3; 20]) },
        Request::Control { cookie: Cookie([5; 32]), control: Control::Add { address: "/ip4/192.0.2.1/tcp/3297".into() } },
        Request::Faucet(FaucetRequest::Claim(FaucetClaim { address: Address([3; 20]), block: hash, nonce: 6 })),
        Request::Announce { ids: vec![ShortId([7; 8])] },
        Request::Pending { ids: vec![ShortId([7; 8]), ShortId([8; 8])] },
        Request::Attachments { ids: vec![ShortId([7; 8])] },
        Request::NewTip(status.clone()),
        Request::Ledger {
            address: Address([3; 20]),
            before: Some(Place { height: 9, index: 2, side: Side::Credit }),
            limit: 10,
            proofs: Proofs::With,
        },
    ];
    let responses = [
        Response::Status(status),
        Response::Headers(vec![block.header.clone()]),
        Response::Blocks(vec![Some(data.clone()), None]),
        Response::Transactions(vec![Some(submission.clone()), None]),
        Response::TransactionIds(Some(vec![transaction.wtxid()])),
        Response::File(Some(vec![1, 2, 3])),
        Response::Submitted(SubmitReply::Accepted { answer: None }),
        Response::Transaction(TransactionStatus::Pending(transaction.wtxid())),
        Response::NodeStatus(Box::new(NodeStatus { uptime_seconds: 7, ..NodeStatus::default() })),
        Response::failed("busy"),
        Response::Fee(FeeSuggestion { rate: 9, minimum: 8 }),
        Response::Announce { noted: 1 },
        Response::Pending(vec![Some(submission.clone()), None]),
        Response::Attachments(attachments),
        Response::NewTip,
        Response::Upload(None),
    ];
    let mut seeds: Vec<(u8, String, Vec<u8>)> = vec![
        (0, "transaction".into(), encode(&transaction)),
        (1, "header".into(), encode(&block.header)),
        (2, "block".into(), encode(&Block { header: block.header.clone(), body: block.body.clone() })),
        (3, "body".into(), encode(&block.body)),
        (4, "action".into(), encode(&transaction.unsigned.action)),
        (5, "parameters".into(), encode(&chain.network.parameters)),
        (6, "block_data".into(), encode(&data)),
        (7, "announcement".into(), Announcement::of(block.header, &block.body).to_bytes()),
        (8, "submission".into(), submission.to_bytes()),
        (11, "address".into(), Address([3; 20]).to_text("toc").into_bytes()),
        (11, "amount".into(), b"12.5".to_vec()),
        (12, "target".into(), vec![0xff, 0xff, 0x0f, 0x1e]),
        (13, "network".into(), include_bytes!("../../consensus/networks/local.toml").to_vec()),
    ];
    let numbered = |which: u8, name: &str, all: Vec<Vec<u8>>| {
        let seed = |(number, bytes)| (which, format!("{name}_{number}"), bytes);
        all.into_iter().enumerate().map(seed).collect::<Vec<_>>()
    };
    seeds.extend(numbered(9, "request", requests.iter().map(Request::to_bytes).collect()));
    seeds.extend(numbered(10, "response", responses.iter().map(Response::to_bytes).collect()));
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds/decoders");
    fs::create_dir_all(&folder)?;
    for (which, name, bytes) in seeds {
        fs::write(folder.join(name), [vec![which], bytes].concat())?;
    }
    Ok(())
}
