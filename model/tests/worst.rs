//! The worst that strangers may publish: what loading, proving, planning and running it allocates stays within the formulas of
//! `docs/inference.md` (*What a stranger's model takes*), and kernels run it as the reference does. Bytes are counted, on the thread that
//! asks for them; no time is taken.

use std::num::NonZeroUsize;

use allocation_counter::{AllocationInfo, measure};
use ocelli_model::file::{MAX_FILE_BYTES, MAX_HEADER_BYTES};
use ocelli_model::graph::{MAX_LAYERS, MAX_MOVED, MAX_PACKED_WEIGHTS};
use ocelli_model::sample::worst;
use ocelli_model::{Backend as _, Kernel, KernelBackend, Model, reference};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

/// A network with every kind of layer, of a few pixels.
const SEED_FILE: &[u8] = include_bytes!("../../fuzz/seeds/model_file/every_layer.safetensors");
const MUTANTS: u64 = 2_000;
/// What is allocated beside what the formulas count.
const SLACK: u64 = 16 << 10;

fn counted<T>(run: impl FnOnce() -> T) -> (T, AllocationInfo) {
    let mut result = None;
    let info = measure(|| result = Some(run()));
    (result.expect("it ran"), info)
}

/// Bytes of a file's JSON.
fn header(file: &[u8]) -> u64 {
    let claimed = file.first_chunk().map_or(0, |length| u64::from_le_bytes(*length));
    claimed.min(file.len() as u64).min(MAX_HEADER_BYTES as u64)
}

/// Loads a file, and proves what it holds.
fn load(name: &str, file: &[u8]) -> Option<Model> {
    let (model, found) = counted(|| Model::from_bytes(file).ok());
    let (bytes, header) = (file.len() as u64, header(file));
    let (most, total) = (2 * bytes + 80 * header + SLACK, 2 * bytes + 240 * header + SLACK);
    assert!(found.bytes_max <= most, "{name}: {} bytes at a time, {most} at most", found.bytes_max);
    assert!(found.bytes_total <= total, "{name}: {} bytes in all, {total} at most", found.bytes_total);
    model
}

#[test]
fn the_largest_models_are_prepared_within_bounds_and_run_exactly() {
    for name in worst::NAMES {
        let file = worst::by_name(name).expect("it has this name").to_bytes().expect("it fits");
        let model = load(name, &file).expect("it is a model");
        let pixels: Vec<u8> = (0..model.pixels()).map(|at| (at * 31 % 251) as u8).collect();
        let expected = reference::logits(&model, &pixels);
        let cost = model.graph().cost();
        // Two bytes for each that is moved, eight for each packed weight.
        let bound = 2 * cost.moved + 8 * cost.packed_weights + (1 << 20);
        for kernel in Kernel::available() {
            let mut backend = KernelBackend::with(kernel, NonZeroUsize::MIN).expect("it is available");
            let (memory, plan) = counted(|| backend.memory(&model).expect("it is planned"));
            let (most, all) = (plan.bytes_max, plan.bytes_total);
            assert!(
                memory as u64 <= plan.bytes_max && most <= bound && all <= 2 * bound,
                "{name}, {kernel}: {memory} bytes stay, {most} at a time, {all} in all, {bound} at most; {cost:?}"
            );
            assert_eq!(backend.prepared_bytes(), memory as u64, "{name}, {kernel}");
            let (logits, run) = counted(|| backend.logits(&model, &[&pixels]).expect("it runs"));
            assert_eq!(logits, std::slice::from_ref(&expected), "{name}, {kernel}");
            let bound = 8 * model.logits() as u64 + SLACK;
            assert!(run.bytes_total <= bound, "{name}, {kernel}: {} bytes to run, {bound} at most", run.bytes_total);
        }
    }
}

/// Each counts 262,144 bytes in a block, and none could take more for them.
#[test]
fn the_small_ones_come_up_to_what_the_smallest_count() {
    for name in worst::SMALL_NAMES {
        let file = worst::small_by_name(name).expect("it has this name").to_bytes().expect("it fits");
        let model = load(name, &file).expect("it is a model");
        let is_full = file.len() >= 250_000 || model.graph().layers().len() == MAX_LAYERS;
        assert!(file.len() <= 262_144 && is_full, "{name} has {} bytes", file.len());
    }
}

/// They do come up to the limits, else they would not be the worst.
#[test]
fn the_largest_models_come_up_to_the_limits() {
    let files = worst::NAMES.map(|name| worst::by_name(name).expect("it has this name"));
    let most = |of: &dyn Fn(&ocelli_model::ModelFile) -> u64| files.iter().map(of).max().expect("there are some");
    for (what, found, limit) in [
        ("moved", most(&|file| file.graph.cost().moved), MAX_MOVED),
        ("packed weights", most(&|file| file.graph.cost().packed_weights), MAX_PACKED_WEIGHTS),
        ("layers", most(&|file| file.graph.layers().len() as u64), MAX_LAYERS as u64),
        ("channels", most(&|file| file.graph.input().shape.channels as u64), 65_535),
        ("bytes", most(&|file| file.to_bytes().expect("it fits").len() as u64), MAX_FILE_BYTES as u64),
    ] {
        assert!(found <= limit && found > limit - limit / 64, "{what}: {found} of {limit}");
    }
}

/// A file of this header, as long as a header may be when `fill` has been put in often enough, and of no data.
fn container(begin: &str, fill: impl Fn(usize) -> String, end: &str) -> Vec<u8> {
    let mut header = begin.to_owned();
    for number in 0.. {
        let next = fill(number);
        if header.len() + next.len() + end.len() > MAX_HEADER_BYTES {
            break;
        }
        header.push_str(&next);
    }
    header.push_str(end);
    [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat()
}

/// The JSON of [`SEED_FILE`] without its last brace, and its data.
fn seed() -> (String, &'static [u8]) {
    let (json, data) = SEED_FILE[8..].split_at(header(SEED_FILE) as usize);
    let json = str::from_utf8(json).expect("JSON is UTF-8").trim_end();
    (json.strip_suffix('}').expect("an object").to_owned(), data)
}

#[test]
fn headers_that_are_full_of_something_take_bytes_in_proportion() {
    let (seed, data) = seed();
    let graph =
        r#"{"__metadata__":{"graph":"{\"version\":2,\"input\":{\"channels\":1,\"height\":1,\"width\":1,\"crop\":256,"#;
    let display = seed.replacen(r#""display":""#, r#""display":"["#, 1);
    let at = display.find(r#""display":"["#).expect("it has a display") + r#""display":"["#.len();
    let files: [(&str, Vec<u8>, bool); 8] = [
        ("keys", container(&seed, |number| format!(",\"{number:x}\":0"), "}"), false),
        ("empty lists", container(&format!("{seed},\"a\":[0"), |_| ",[]".into(), "]}"), false),
        ("lists", container(&format!("{seed},\"a\":[0"), |_| ",[0]".into(), "]}"), false),
        ("objects", container(&format!("{seed},\"a\":[0"), |_| ",{\"\":0}".into(), "]}"), false),
        ("one key again and again", container("{\"\":0", |_| ",\"\":0".into(), "}"), false),
        (
            "layers",
            container(&format!("{graph}\\\"zero_points\\\":[0]}},\\\"layers\\\":[0"), |_| ",[]".into(), "]}\"}}"),
            false,
        ),
        ("zero points", container(&format!("{graph}\\\"zero_points\\\":[0"), |_| ",0".into(), "]}}\"}}"), false),
        (
            "a display",
            [container(&display[..at], |_| "[],".into(), &format!("{}}}", &display[at..])).as_slice(), data].concat(),
            true,
        ),
    ];
    for (name, file, is_model) in files {
        assert!(header(&file) > MAX_HEADER_BYTES as u64 - 64, "{name}: {} bytes", header(&file));
        assert_eq!(load(name, &file).is_some(), is_model, "{name}: {:?}", Model::from_bytes(&file).err());
    }
}

/// Changed bytes, digits and pieces: most are refused, at any place of the reader.
#[test]
fn changed_files_take_bytes_in_proportion() {
    for seed in 0..MUTANTS {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut file = SEED_FILE.to_vec();
        for _ in 0..=random.next_u32() % 4 {
            let mut place = || random.next_u64() as usize % SEED_FILE.len();
            let (length, at, other) = (place() % 32, place().max(32) - 32, place().max(32) - 32);
            match random.next_u32() % 3 {
                0 => file[at] ^= 1 << (random.next_u32() % 8),
                1 => file[at] = b"0123456789[]{},:\""[random.next_u32() as usize % 17],
                _ => file.copy_within(other..other + length, at),
            }
        }
        load(&format!("seed {seed}"), &file);
    }
}
