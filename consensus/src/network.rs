//! Network files: the parameters of a network in TOML, its schedule of rules, and where its bootstrap peers are.

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::address::{Address, AddressError};
use crate::amount::{Amount, ParseAmountError};
use crate::genesis::genesis_state;
use crate::hash::{BlockHash, ModelId};
use crate::header::{Header, ParentBlock, Place, TIME_LIMIT};
use crate::object::{ModelFacts, facts_out_of_range};
use crate::parameters::{GenesisModel, Parameters, StartingAccount};
use crate::schedule::{Schedule, ScheduleError, ScheduledVersion};
use crate::target::{CompactTarget, CompactTargetError, U256, Work};

/// The Ed25519 seed of the network `local`'s development wallet, SHA-256 of `ocelli/dev-wallet`: everybody knows it, so
/// only that network gives it anything.
pub const DEV_WALLET_SEED: [u8; 32] = [
    0x13, 0xdc, 0xf8, 0xce, 0x96, 0xae, 0x00, 0xa2, 0xd6, 0xbe, 0x36, 0x49, 0xc6, 0x6a, 0x99, 0x3f, 0xf9, 0x45, 0x21,
    0xfd, 0xd7, 0x69, 0x59, 0xc6, 0xd3, 0x05, 0x0b, 0x33, 0x3f, 0x67, 0x1a, 0x31,
];

/// The files of the networks that are built in, by name.
const BUILT_IN: [(&str, &str); 2] =
    [("local", include_str!("../networks/local.toml")), ("testnet", include_str!("../networks/testnet.toml"))];

/// Names are file names, protocol names and words on a screen.
const MAX_NAME_BYTES: usize = 32;
/// The models and starting accounts that a network may have: a first choice, far above any use.
const MAX_ENTRIES: usize = 10_000;
/// The smallest block that has room for the dearest transaction of every kind.
const LEAST_WEIGHT_LIMIT: u64 = 1_100_000;
/// The largest block that travels.
const MAX_WEIGHT_LIMIT: u64 = 12_000_000;
/// Numbers of blocks are below this.
const BLOCKS_LIMIT: u64 = 1 << 32;
/// A price a byte is below this, so that what a file burns fits into 64 bits.
const MODEL_PRICE_LIMIT: u64 = 1 << 40;
/// The shortest upload window, which holds the delay before the first part twice.
const LEAST_UPLOAD_WINDOW: u64 = 16;

/// A network to join: what its nodes agree on, and whom to ask first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// What the genesis hash binds.
    pub parameters: Parameters,
    /// Which rules hold from which height on. Not bound by the genesis hash: it grows as rules change.
    pub schedule: Schedule,
    /// Follows from the parameters.
    pub genesis: Header,
    /// Multiaddrs of bootstrap peers. Not bound by the genesis hash: they come and go.
    pub bootstrap: Vec<String>,
    /// Work that the network's chain is known to have: headers of a chain with less are not stored, so that a new node
    /// cannot be flooded with cheap ones. Not bound by the genesis hash: it grows as the chain does.
    pub minimum_work: Work,
}

/// Why a network file is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkFileError {
    /// Not TOML, or with keys missing or too many.
    #[error("not a network file: {0}")]
    Syntax(String),
    /// A value outside of what makes sense.
    #[error("{key} is {found}, expected {expected}")]
    Value {
        key: &'static str,
        /// What stands there.
        found: String,
        /// What should.
        expected: &'static str,
    },
    /// A model that no chain can hold.
    #[error("{field} of model {id} is {found}, expected {least} to {most}")]
    Model {
        id: ModelId,
        field: &'static str,
        /// What stands there.
        found: u64,
        /// The least that it may be.
        least: u64,
        /// The most that it may be.
        most: u64,
    },
    /// A target that is none.
    #[error("easiest_target")]
    Target(#[source] CompactTargetError),
    /// An amount that is none.
    #[error("{key}")]
    Amount {
        key: &'static str,
        /// What is wrong with it.
        source: ParseAmountError,
    },
    /// A starting account whose address is none.
    #[error("accounts")]
    Address(#[source] AddressError),
    /// A schedule that is none.
    #[error("rules")]
    Schedule(#[source] ScheduleError),
}

impl Network {
    /// The names of the networks that are built in.
    pub fn built_in_names() -> impl Iterator<Item = &'static str> {
        BUILT_IN.iter().map(|(name, _)| *name)
    }

    /// A network that is built in: `local` or `testnet`.
    pub fn builtin(name: &str) -> Option<Self> {
        let (_, text) = BUILT_IN.iter().find(|(known, _)| *known == name)?;
        Some(Self::from_toml(text).expect("a test reads every built-in network"))
    }

    /// Reads a network file.
    ///
    /// # Errors
    /// [`NetworkFileError`] names the key that is wrong.
    pub fn from_toml(text: &str) -> Result<Self, NetworkFileError> {
        let file: File = toml::from_str(text).map_err(|error| NetworkFileError::Syntax(error.to_string()))?;
        let bootstrap = file.bootstrap.clone();
        let minimum_work = minimum_work(&file.minimum_work)?;
        let rules = file.rules.iter().map(|&FileRules { height, version }| ScheduledVersion { height, version });
        let schedule = Schedule::new(rules.collect()).map_err(NetworkFileError::Schedule)?;
        let parameters = file.into_parameters()?;
        check(&parameters)?;
        Ok(Self { minimum_work, schedule, ..Self::new(parameters, bootstrap) })
    }

    /// A network of these parameters, whose chain may have any work, and whose rules do not change. [`Network::from_toml`] checks
    /// them; this does not.
    pub fn new(parameters: Parameters, bootstrap: Vec<String>) -> Self {
        let (state, _, _) = genesis_state(&parameters);
        let genesis = parameters.genesis(crate::hash::Root(state.hash()));
        Self { parameters, schedule: Schedule::default(), genesis, bootstrap, minimum_work: Work(U256::ZERO) }
    }

    /// Where the block after `parent` stands that pays `miner`.
    pub fn place_after(&self, parent: impl Into<ParentBlock>, miner: Address) -> Place {
        let ParentBlock { height, time: parent_time } = parent.into();
        let height = height.saturating_add(1);
        Place { height, version: self.schedule.version_at(height), miner, parent_time }
    }

    /// What names the network in signatures and protocol names.
    pub fn genesis_hash(&self) -> BlockHash {
        self.genesis.hash()
    }
}

/// A network file as it is written. Amounts are in credits.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    address_prefix: String,
    genesis_time: u64,
    spacing: u64,
    half_life: u64,
    easiest_target: String,
    reward: String,
    halving: u64,
    weight_limit: u64,
    minimum_balance: String,
    retention: u64,
    attachment_retention: u64,
    upload_window: u64,
    model_delay: u64,
    model_price: String,
    #[serde(default)]
    bootstrap: Vec<String>,
    #[serde(default = "no_work")]
    minimum_work: String,
    #[serde(default)]
    accounts: Vec<FileAccount>,
    models: Vec<FileModel>,
    #[serde(default)]
    rules: Vec<FileRules>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileAccount {
    address: String,
    balance: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileModel {
    id: ModelId,
    size: u32,
    channels: u16,
    height: u16,
    width: u16,
    classes: u32,
    cost: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileRules {
    height: u64,
    version: u32,
}

impl From<&FileModel> for GenesisModel {
    fn from(&FileModel { id, size, channels, height, width, classes, cost }: &FileModel) -> Self {
        Self { id, facts: ModelFacts { size, channels, height, width, classes, cost } }
    }
}

impl File {
    fn into_parameters(self) -> Result<Parameters, NetworkFileError> {
        // Before addresses are read with it: the library that reads them takes a valid prefix for granted.
        if bech32::Hrp::parse(&self.address_prefix).is_err()
            || self.address_prefix != self.address_prefix.to_lowercase()
        {
            let expected = "a lower-case Bech32 prefix such as toc";
            return Err(NetworkFileError::Value { key: "address_prefix", found: self.address_prefix, expected });
        }
        let mut accounts = Vec::new();
        for account in &self.accounts {
            accounts.push(StartingAccount {
                address: Address::from_text(&account.address, &self.address_prefix)
                    .map_err(NetworkFileError::Address)?,
                balance: amount("accounts", &account.balance)?,
            });
        }
        accounts.sort_by_key(|account| account.address);
        Ok(Parameters {
            easiest_target: target(&self.easiest_target)?,
            reward: amount("reward", &self.reward)?,
            minimum_balance: amount("minimum_balance", &self.minimum_balance)?,
            model_price: amount("model_price", &self.model_price)?,
            name: self.name,
            address_prefix: self.address_prefix,
            genesis_time: self.genesis_time,
            spacing: self.spacing,
            half_life: self.half_life,
            halving: self.halving,
            weight_limit: self.weight_limit,
            retention: self.retention,
            attachment_retention: self.attachment_retention,
            upload_window: self.upload_window,
            model_delay: self.model_delay,
            accounts,
            models: self.models.iter().map(GenesisModel::from).collect(),
        })
    }
}

fn amount(key: &'static str, text: &str) -> Result<Amount, NetworkFileError> {
    text.parse().map_err(|source| NetworkFileError::Amount { key, source })
}

fn no_work() -> String {
    "0x0".into()
}

fn minimum_work(text: &str) -> Result<Work, NetworkFileError> {
    let work = text.strip_prefix("0x").and_then(|digits| U256::from_str_radix(digits, 16).ok());
    work.map(Work).ok_or_else(|| NetworkFileError::Value {
        key: "minimum_work",
        found: text.into(),
        expected: "a hexadecimal number below 2^256 such as \"0x1f4c0000\"",
    })
}

fn target(text: &str) -> Result<CompactTarget, NetworkFileError> {
    let digits = text.strip_prefix("0x").filter(|digits| digits.len() == 8);
    let bits =
        digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()).ok_or_else(|| NetworkFileError::Value {
            key: "easiest_target",
            found: text.into(),
            expected: "a compact target such as \"0x1e0fffff\"",
        })?;
    let compact = CompactTarget(bits);
    compact.to_target().map_err(NetworkFileError::Target)?;
    Ok(compact)
}

/// Checks what would make a network that cannot work.
fn check(parameters: &Parameters) -> Result<(), NetworkFileError> {
    let require = |holds: bool, key: &'static str, found: String, expected: &'static str| {
        if holds { Ok(()) } else { Err(NetworkFileError::Value { key, found, expected }) }
    };
    let name = &parameters.name;
    let plain = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    require(
        plain && (1..=MAX_NAME_BYTES).contains(&name.len()),
        "name",
        format!("\"{name}\""),
        "1 to 32 lower-case letters, digits and hyphens",
    )?;
    require(
        parameters.genesis_time < TIME_LIMIT,
        "genesis_time",
        parameters.genesis_time.to_string(),
        "seconds since 1970 below 2^40",
    )?;
    for (key, value) in [("spacing", parameters.spacing), ("half_life", parameters.half_life)] {
        require((1..1 << 32).contains(&value), key, value.to_string(), "1 to 2^32 - 1 seconds")?;
    }
    require(parameters.halving > 0, "halving", "0".into(), "a number of blocks above zero")?;
    let (retention, attachments) = (parameters.retention, parameters.attachment_retention);
    let (window, delay) = (parameters.upload_window, parameters.model_delay);
    for (holds, key, found, expected) in [
        (retention < BLOCKS_LIMIT, "retention", retention, "fewer than 2^32 blocks"),
        (attachments <= retention, "attachment_retention", attachments, "at most as many blocks as retention"),
        (
            (LEAST_UPLOAD_WINDOW..attachments).contains(&window),
            "upload_window",
            window,
            "at least 16 blocks, and fewer than attachment_retention",
        ),
        ((1..BLOCKS_LIMIT).contains(&delay), "model_delay", delay, "1 to 2^32 - 1 blocks"),
        (
            (LEAST_WEIGHT_LIMIT..=MAX_WEIGHT_LIMIT).contains(&parameters.weight_limit),
            "weight_limit",
            parameters.weight_limit,
            "1,100,000 to 12,000,000",
        ),
    ] {
        require(holds, key, found.to_string(), expected)?;
    }
    require(
        parameters.model_price.0 < MODEL_PRICE_LIMIT,
        "model_price",
        format!("{} credits a byte", parameters.model_price),
        "fewer than 10995.11627776 credits a byte",
    )?;
    // Rewards halve, so that all of them together stay below 2 · reward · halving.
    let rewards = u128::from(parameters.reward.0) * u128::from(parameters.halving) * 2;
    let supply = parameters.accounts.iter().map(|account| u128::from(account.balance.0)).sum::<u128>() + rewards;
    require(
        supply <= u128::from(u64::MAX),
        "accounts",
        format!("{supply} grains with all rewards"),
        "at most 2^64 - 1 grains in all",
    )?;
    for pair in parameters.accounts.windows(2) {
        let address = pair[1].address.to_text(&parameters.address_prefix);
        require(pair[0].address != pair[1].address, "accounts", address, "each address once")?;
    }
    for account in &parameters.accounts {
        require(account.balance > Amount::ZERO, "accounts", "a balance of 0".into(), "balances above zero")?;
    }
    require(
        parameters.models.len() <= MAX_ENTRIES && parameters.accounts.len() <= MAX_ENTRIES,
        "models",
        parameters.models.len().to_string(),
        "at most 10,000 models and accounts",
    )?;
    let mut ids = BTreeSet::new();
    for model in &parameters.models {
        require(ids.insert(model.id), "models", model.id.to_string(), "each model once")?;
        if let Some((field, found, (least, most))) = facts_out_of_range(&model.facts) {
            return Err(NetworkFileError::Model { id: model.id, field, found, least, most });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::sha256;
    use crate::schedule::TEST_VERSION;

    const LOCAL: &str = include_str!("../networks/local.toml");

    #[test]
    fn built_in_networks_are_valid() {
        for name in Network::built_in_names() {
            assert_eq!(Network::builtin(name).unwrap().parameters.name, name);
        }
        assert_eq!(Network::builtin("nowhere"), None);
        assert_ne!(
            Network::builtin("local").unwrap().genesis_hash(),
            Network::builtin("testnet").unwrap().genesis_hash()
        );
    }

    #[test]
    fn the_development_wallet_is_funded_on_local_only() {
        assert_eq!(DEV_WALLET_SEED, sha256(&[b"ocelli/dev-wallet"]));
        let key = ed25519_dalek::SigningKey::from_bytes(&DEV_WALLET_SEED).verifying_key().to_bytes();
        let address = Address::of(&key);
        let local = Network::builtin("local").unwrap().parameters;
        assert_eq!(local.accounts.len(), 1, "{}", address.to_text("toc"));
        assert_eq!(local.accounts[0].address, address, "{}", address.to_text("toc"));
        assert!(!Network::builtin("testnet").unwrap().parameters.balances().contains_key(&address));
    }

    #[test]
    fn the_documented_file_is_read_and_every_key_is_documented() {
        let document = include_str!("../../docs/protocol.md");
        let section = document.split_once("### The network file").unwrap().1;
        let section = section.split_once("\n## ").unwrap().0;
        let example = section.split_once("```toml\n").unwrap().1.split_once("```").unwrap().0;
        let network = Network::from_toml(example).unwrap();
        assert_eq!(network.parameters.accounts.len(), 1);
        assert_eq!(network.parameters.models.len(), 1);
        assert_eq!(network.schedule.entries().len(), 1);
        assert_eq!(network.bootstrap, ["/ip4/192.168.0.10/tcp/3297"]);
        let hash = network.genesis_hash().to_string();
        assert!(section.contains(&hash), "the example's genesis hash, {hash}, is there");

        // The parser lists the keys that it knows wherever it meets another one.
        let mut documented = 0;
        for (table, text) in [
            ("", "unknown = 1".to_owned()),
            ("accounts.", format!("{example}[[accounts]]\nunknown = 1")),
            ("models.", format!("{example}[[models]]\nunknown = 1")),
            ("rules.", format!("{example}[[rules]]\nunknown = 1")),
        ] {
            let error = Network::from_toml(&text).unwrap_err().to_string();
            let list = error.split_once("expected one of ").or_else(|| error.split_once("expected ")).unwrap().1;
            for key in list.split('`').skip(1).step_by(2) {
                let row = [format!("| `{table}{key}`"), format!("`[[{key}]]`")];
                assert!(row.iter().any(|row| section.contains(row)), "{table}{key} is in docs/protocol.md");
                assert!(example.contains(key), "{table}{key} is in the example");
                documented += 1;
            }
        }
        assert_eq!(documented, 20 + 2 + 7 + 2);
    }

    /// Shape and cost take a program that reads models: a node compares them when it starts.
    #[test]
    fn the_models_of_built_in_networks_are_the_files_of_the_zoo() {
        let cnn: &[u8] = include_bytes!("../../model/zoo/cifar10-cnn.safetensors");
        let resnet: &[u8] = include_bytes!("../../model/zoo/cifar10-resnet.safetensors");
        let lite0: &[u8] = include_bytes!("../../model/zoo/efficientnet-lite0.safetensors");
        let person: &[u8] = include_bytes!("../../model/zoo/person-96.safetensors");
        for (name, files) in [("local", vec![cnn, resnet, person]), ("testnet", vec![cnn, resnet, lite0, person])] {
            let expected = files.iter().map(|file| (ModelId::of(file), file.len() as u32));
            let models = Network::builtin(name).unwrap().parameters.models;
            assert!(models.iter().map(|model| (model.id, model.facts.size)).eq(expected), "{name}");
        }
    }

    #[test]
    fn rules_change_without_another_genesis() {
        let local = Network::from_toml(LOCAL).unwrap();
        let rules = "[[rules]]\nheight = 9\nversion = 1\n[[rules]]\nheight = 10\nversion = 4_294_967_295\n";
        let other = Network::from_toml(&format!("{LOCAL}\n{rules}")).unwrap();
        assert_eq!(other.genesis_hash(), local.genesis_hash());
        assert_eq!((local.schedule.version_at(10), other.schedule.version_at(10)), (1, TEST_VERSION));
        let place = other.place_after(ParentBlock { height: 9, time: 7 }, Address([3; 20]));
        let expected = Place { height: 10, version: TEST_VERSION, miner: Address([3; 20]), parent_time: 7 };
        assert_eq!(place, expected);
    }

    #[test]
    fn the_minimum_work_is_read_and_binds_nothing() {
        let local = Network::from_toml(LOCAL).unwrap();
        assert_eq!(local.minimum_work, Work(U256::ZERO));
        let text = LOCAL.replace("bootstrap = []", "minimum_work = \"0x10000\"");
        let other = Network::from_toml(&text).unwrap();
        assert_eq!(other.minimum_work, Work(U256::from(65_536)));
        assert_eq!(other.genesis_hash(), local.genesis_hash());
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (line, change, error) in [
            ("spacing = 2", "spacing = 0", "spacing is 0, expected 1 to 2^32 - 1 seconds"),
            ("spacing = 2", "", "missing field `spacing`"),
            ("spacing = 2", "spacing = 2\nspaces = 2", "unknown field `spaces`"),
            ("half_life = 60", "half_life = 0", "half_life is 0, expected 1 to 2^32 - 1 seconds"),
            ("name = \"local\"", "name = \"Lo cal\"", "name is \"Lo cal\", expected"),
            ("\"0x1e0fffff\"", "\"0x1e800000\"", "easiest_target"),
            ("\"0x1e0fffff\"", "\"1e0fffff\"", "easiest_target is 1e0fffff, expected a compact target"),
            ("address_prefix = \"toc\"", "address_prefix = \"oc\"", "accounts"),
            ("address_prefix = \"toc\"", "address_prefix = \"\"", "address_prefix is , expected"),
            ("reward = \"10\"", "reward = \"ten\"", "reward"),
            ("halving = 2_000_000", "halving = 0", "halving is 0, expected a number of blocks above zero"),
            ("halving = 2_000_000", "halving = 9_000_000_000_000_000_000", "in all"),
            ("weight_limit = 4_200_000", "weight_limit = 1_099_999", "expected 1,100,000 to 12,000,000"),
            ("weight_limit = 4_200_000", "weight_limit = 12_000_001", "expected 1,100,000 to 12,000,000"),
            ("\nretention = 1_000", "\nretention = 4_294_967_296", "retention is 4294967296, expected fewer than 2^32"),
            ("\nretention = 1_000", "\nretention = 499", "attachment_retention is 500, expected at most as many"),
            ("upload_window = 200", "upload_window = 500", "upload_window is 500, expected at least 16 blocks"),
            ("upload_window = 200", "upload_window = 15", "upload_window is 15, expected at least 16 blocks"),
            ("model_delay = 4", "model_delay = 0", "model_delay is 0, expected 1 to 2^32 - 1 blocks"),
            ("model_delay = 4", "model_delay = 4_294_967_296", "expected 1 to 2^32 - 1 blocks"),
            ("\"0.00001\"", "\"10995.11627776\"", "model_price is 10995.11627776 credits a byte, expected fewer"),
            ("\"0.00001\"", "\"a lot\"", "model_price"),
            ("size = 129_416", "size = 67_108_865", "expected 1 to 67108864"),
            ("channels = 3", "channels = 0", "channels of model d34e5d3f"),
            ("classes = 10", "classes = 32_769", "is 32769, expected 1 to 32768"),
            ("cost = 5_090_944", "cost = 16_639", "is 16639, expected 16640 to 8589934592"),
            ("bootstrap = []", "rules = [{ height = 0, version = 1 }]", "rules"),
            ("bootstrap = []", "rules = [{ height = 7, version = 2 }]", "rules"),
            ("bootstrap = []", "minimum_work = \"12\"", "minimum_work is 12, expected a hexadecimal number"),
        ] {
            assert!(LOCAL.contains(line), "{line}");
            let found = Network::from_toml(&LOCAL.replace(line, change)).unwrap_err().to_string();
            assert!(found.contains(error), "{change}: {found}");
        }
        let models = &LOCAL[LOCAL.find("[[models]]").unwrap()..];
        let twice = Network::from_toml(&format!("{LOCAL}\n{models}")).unwrap_err().to_string();
        assert!(twice.contains("expected each model once"), "{twice}");
    }
}
