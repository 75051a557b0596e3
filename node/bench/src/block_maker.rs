//! Blocks full of tasks, for what is measured on a chain of them.

use std::sync::mpsc;
use std::thread;

use jpeg_encoder::{ColorType, Encoder, SamplingFactor};
use ocelli_consensus::block::{Answer, Classes};
use ocelli_consensus::network::DEV_WALLET_SEED;
use ocelli_consensus::transaction::Form;
use ocelli_consensus::{
    Action, Address, Amount, AttachmentHash, Header, ModelId, Network, Parameters, Transaction, Unsigned, rules,
};
use ocelli_model::{Backend, Model};
use ocelli_node::chain::{Chain, CheckedFile, assemble};
use ocelli_node::inference::{BATCH_PICTURES, facts_of};
use ocelli_node::miner::Miner;
use ocelli_node::store::Store;
use ocelli_node::wallet::Wallet;
use ocelli_program::error::{CommandError, Explain as _};
use ocelli_protocol::message::BlockData;
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;

/// Makes the images: each is another one.
const SEED: u64 = 1;

/// A good block.
pub struct Block {
    pub header: Header,
    pub data: BlockData,
}

/// Makes blocks of Classify tasks of the development wallet, a random picture in each, one block after the other.
pub struct BlockMaker<'a> {
    network: &'a Network,
    model: &'a Model,
    wallet: Wallet,
    random: ChaCha8Rng,
    nonce: u64,
}

impl<'a> BlockMaker<'a> {
    /// Begins at the genesis of a network whose development wallet has credits.
    pub fn new(network: &'a Network, model: &'a Model) -> Self {
        let wallet = Wallet::from_seed(DEV_WALLET_SEED);
        Self { network, model, wallet, random: ChaCha8Rng::seed_from_u64(SEED), nonce: 0 }
    }

    /// How many tasks a block is to have: as many as the weight limit lets, unless `wanted` says.
    ///
    /// # Errors
    /// If the block would weigh too much.
    pub fn tasks_a_block(&self, wanted: Option<u32>) -> Result<usize, CommandError> {
        let limit =
            tasks_of_a_block(&self.network.parameters, self.model, &self.sign(0, &vec![0; self.model.pixels()]));
        match wanted.map(|count| count as usize) {
            Some(count) if count > limit => Err(CommandError::usage(format!(
                "found {count} tasks, expected at most {limit}: a block of the network `{}` weighs no more",
                self.network.parameters.name
            ))),
            wanted => Ok(wanted.unwrap_or(limit)),
        }
    }

    /// Makes the next block, of so many tasks, and puts it on the chain, one spacing after its parent.
    ///
    /// # Errors
    /// For a device that fails, and a folder that cannot be written.
    pub fn make(&mut self, chain: &mut Chain, tasks: usize, backend: &mut dyn Backend) -> Result<Block, CommandError> {
        let data = self.fill(tasks, backend)?;
        self.put(chain, data)
    }

    /// Makes the next block of these data, and puts it on the chain, one spacing after its parent.
    ///
    /// # Errors
    /// For data that break a rule, and a folder that cannot be written.
    pub fn put(&mut self, chain: &mut Chain, data: BlockData) -> Result<Block, CommandError> {
        let miner = Address::of(&self.wallet.public_key());
        let time = chain.tip().time + self.network.parameters.spacing;
        let header = mine(chain.template(miner, &data.body, time)?)?;
        let hash = header.hash();
        chain.insert_headers(std::slice::from_ref(&header), header.time)?.1.map_or(Ok(()), Err)?;
        chain.accept_block(hash, &data, &|_| false)?;
        chain.set_answers(hash, Ok(()))?;
        advance(chain)?;
        Ok(Block { header, data })
    }

    /// A block's data: tasks with the next nonces, each on a picture of its own, with its answer.
    fn fill(&mut self, tasks: usize, backend: &mut dyn Backend) -> Result<BlockData, CommandError> {
        let mut data = BlockData::default();
        for _ in 0..tasks {
            let mut pixels = vec![0; self.model.pixels()];
            self.random.fill_bytes(&mut pixels);
            data.body.transactions.push((self.sign(self.nonce, &pixels), Answer::None));
            data.attachments.push(Some(pixels.into()));
            self.nonce += 1;
        }
        let images: Vec<&[u8]> = data.attachments.iter().flatten().map(AsRef::as_ref).collect();
        for (images, transactions) in
            images.chunks(BATCH_PICTURES).zip(data.body.transactions.chunks_mut(BATCH_PICTURES))
        {
            for ((_, answer), logits) in transactions.iter_mut().zip(backend.logits(self.model, images)?) {
                *answer = Answer::Classes(Classes::of(&logits));
            }
        }
        Ok(data)
    }

    /// The data of a block of these actions with their attachments, each with its answer by one of the models.
    ///
    /// # Errors
    /// For another model, a device that fails, and a picture that is none.
    pub fn answered(
        &mut self,
        actions: &[(Action, Option<Vec<u8>>)],
        models: &[Model],
        backend: &mut dyn Backend,
    ) -> Result<BlockData, CommandError> {
        let mut data = BlockData::default();
        for (action, attachment) in actions {
            let answer = match (action.task(), attachment) {
                (Some(task), Some(bytes)) => {
                    let model = models.iter().find(|model| model.id().0 == task.model.0);
                    let model = model.ok_or_else(|| CommandError::failed(format!("found no model {}", task.model)))?;
                    let pixels = pixels_of(model, bytes, task.form)?;
                    let logits = backend.logits(model, &[&pixels])?;
                    logits.first().map_or(Answer::None, |logits| Answer::Classes(Classes::of(logits)))
                }
                _ => Answer::None,
            };
            data.body.transactions.push((self.sign_action(self.nonce, action.clone()), answer));
            data.attachments.push(attachment.as_deref().map(Into::into));
            self.nonce += 1;
        }
        Ok(data)
    }

    fn sign(&self, nonce: u64, pixels: &[u8]) -> Transaction {
        self.sign_action(nonce, classify(self.model, pixels, Form::Pixels))
    }

    fn sign_action(&self, nonce: u64, action: Action) -> Transaction {
        let unsigned = Unsigned { nonce, fee: Amount(1), expires: u64::MAX, action };
        let public_key = self.wallet.public_key();
        Transaction::sign(unsigned, public_key, self.network.genesis_hash(), |hash| self.wallet.sign(hash))
    }
}

/// Moves the tip as far as it goes, and checks the files that wait to be published, as a node does on another thread.
pub fn advance(chain: &mut Chain) -> Result<(), CommandError> {
    loop {
        chain.advance()?;
        let awaited: Vec<_> = chain.awaited_files().map(|(_, finished)| finished.clone()).collect();
        if awaited.is_empty() {
            return Ok(());
        }
        for finished in awaited {
            let file = assemble(chain.store(), &finished)?;
            let file = file.ok_or_else(|| CommandError::failed("the parts of a file are not there"))?;
            chain.file_checked(CheckedFile::of(&file));
        }
    }
}

/// A chain in a temporary folder, which goes with the first of the two.
pub fn new_chain(network: &Network) -> Result<(TempDir, Chain), CommandError> {
    let folder = new_folder()?;
    let store = Store::open(&folder.path().join("chain"), network)?;
    Ok((folder, Chain::open(network.clone(), store)?))
}

/// A temporary folder, which goes with what is returned.
pub fn new_folder() -> Result<TempDir, CommandError> {
    (tempfile::Builder::new().prefix("ocelli-bench-").tempdir())
        .context(|| "cannot make a temporary folder")
        .hint(|| "set TMPDIR to a folder that you may write to")
}

/// A task for a model that is free.
pub fn classify(model: &Model, attachment: &[u8], form: Form) -> Action {
    let (picture, bytes) = (AttachmentHash::of(attachment), attachment.len() as u32);
    Action::Classify { model: ModelId(model.id().0), picture, bytes, royalty: Amount::ZERO, form }
}

/// The pixels that a model gets of a task's attachment.
pub fn pixels_of(model: &Model, attachment: &[u8], form: Form) -> Result<Vec<u8>, ocelli_picture::Refusal> {
    match form {
        Form::Pixels => Ok(attachment.to_vec()),
        Form::Jpeg { .. } => ocelli_picture::pixels(attachment, model.graph().input().into()),
    }
}

/// Makes JPEG files that the network takes, square, each another one.
#[derive(Debug, Clone, Copy)]
pub struct Jpegs {
    pub side: u16,
    /// Of noise, or of one grey each.
    pub is_noise: bool,
    quality: u8,
}

impl Jpegs {
    /// At the highest quality at which they have at most so many bytes, by a sample of them.
    ///
    /// # Errors
    /// Where none has.
    pub fn new(side: u16, is_noise: bool, bytes: usize, random: &mut ChaCha8Rng) -> Result<Self, CommandError> {
        for quality in (1..=95).rev().step_by(2) {
            let jpegs = Self { side, is_noise, quality };
            let file = jpegs.make(random)?;
            // They differ a little.
            if file.len() <= bytes - bytes / 64 && ocelli_picture::check(&file).is_ok() {
                return Ok(jpegs);
            }
        }
        Err(CommandError::failed(format!("no JPEG of {side}x{side} has at most {bytes} bytes")))
    }

    /// # Errors
    /// For a side of 0.
    pub fn make(&self, random: &mut ChaCha8Rng) -> Result<Vec<u8>, CommandError> {
        let mut samples = vec![(random.next_u32() % 128) as u8; 3 * usize::from(self.side) * usize::from(self.side)];
        if self.is_noise {
            random.fill_bytes(&mut samples);
        }
        let mut file = Vec::new();
        let mut encoder = Encoder::new(&mut file, self.quality);
        encoder.set_sampling_factor(SamplingFactor::F_2_2);
        encoder.encode(&samples, self.side, self.side, ColorType::Rgb)?;
        Ok(file)
    }

    /// What a task says of them.
    pub fn form(&self) -> Form {
        Form::Jpeg { width: self.side, height: self.side }
    }
}

/// How many transactions like this one fill a block.
fn tasks_of_a_block(parameters: &Parameters, model: &Model, transaction: &Transaction) -> usize {
    let weight = rules::weight(transaction, Some(&facts_of(model))).unwrap_or(u64::MAX).max(1);
    (parameters.weight_limit / weight) as usize
}

/// Finds a nonce.
fn mine(header: Header) -> Result<Header, CommandError> {
    let (sender, found) = mpsc::channel();
    // An error only says that nobody waits any more.
    let miner = Miner::start(thread::available_parallelism()?.get(), move |header| drop(sender.send(header)));
    miner.set_template(Some(header));
    Ok(found.recv()?)
}

#[cfg(test)]
mod tests {
    use ocelli_model::ReferenceBackend;
    use ocelli_node::node::models;

    use super::*;

    #[test]
    fn a_full_block_has_no_room_for_one_more_task() {
        let network = Network::builtin("local").expect("built in");
        let model = &models(&network).expect("built in")[0];
        let maker = BlockMaker::new(&network, model);
        let weight = rules::weight(&maker.sign(0, &vec![0; model.pixels()]), Some(&facts_of(model)))
            .expect("the model is given");
        let count = maker.tasks_a_block(None).expect("a full block") as u64;
        assert!(count * weight <= network.parameters.weight_limit);
        assert!((count + 1) * weight > network.parameters.weight_limit);
        let error = maker.tasks_a_block(Some(u32::MAX)).expect_err("too many").to_string();
        assert!(error.contains("found 4294967295 tasks, expected at most"), "{error}");
    }

    #[test]
    fn blocks_follow_each_other() {
        let network = Network::builtin("local").expect("built in");
        let models = models(&network).expect("built in");
        let (_folder, mut chain) = new_chain(&network).expect("a folder");
        let mut maker = BlockMaker::new(&network, &models[0]);
        for tasks in [2, 1] {
            let block = maker.make(&mut chain, tasks, &mut ReferenceBackend).expect("made");
            assert_eq!(block.data.body.transactions.len(), tasks);
            assert_eq!(chain.tip().hash, block.header.hash());
        }
    }
}
