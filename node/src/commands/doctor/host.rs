//! What a node needs of its machine.

use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use ocelli_consensus::{Network, Parameters};
use ocelli_model::{Backend, DeviceChoice, Model, backend, golden};

use super::Finding;
use crate::commands::error::CommandError;
use crate::commands::node::DEFAULT_PORT;
use crate::fee::task_weight;
use crate::inference::{BATCH_PICTURES, facts_of};
use crate::node::models;

/// For how long inference is measured.
const MEASURE: Duration = Duration::from_millis(500);
/// A node that has less left on its disk will stop before long.
const LEAST_FREE: u64 = 1 << 30;
/// What a user would rather have left.
const GOOD_FREE: u64 = 10 << 30;

/// The device, whether it is exact on every model of the network, and whether it is fast enough for full blocks.
pub(super) fn device(choice: DeviceChoice, network: &Network) -> Vec<Finding> {
    let (mut backend, why_no_gpu) = match backend::open(choice) {
        Ok(opened) => opened,
        Err(error) => {
            let found = CommandError::from(error).one_line();
            return vec![Finding::failed("device", found, "use --device cpu, and unset OCELLI_KERNEL if it is set")];
        }
    };
    let name = backend.name();
    let mut findings = vec![match why_no_gpu {
        None => Finding::ok("device", name),
        Some(why) => Finding::warning(
            "device",
            format!("{name}; no GPU is used: {why}"),
            "none is needed where the speed below is enough; else build with `--features cuda` or `metal` on a machine \
             with such a GPU",
        ),
    }];
    let models = match models(network) {
        Ok(models) => models,
        Err(error) => {
            let found = CommandError::from(error).one_line();
            findings.push(Finding::failed("models", found, "correct the network file, or update this program"));
            return findings;
        }
    };
    let fetched = network.parameters.models.len().saturating_sub(models.len());
    if fetched > 0 {
        findings.push(Finding::ok(
            "models",
            format!("{fetched} of the network's models are not built in: a node fetches them from peers, or has them of --model-file"),
        ));
    }
    if models.is_empty() {
        return findings;
    }
    for model in &models {
        if let Err(error) = golden::check(&mut *backend, model) {
            let found = CommandError::from(error).one_line();
            findings.push(Finding::failed(
                "exactness",
                found,
                "use --device cpu, and have the device or its driver replaced",
            ));
            return findings;
        }
    }
    let count = models.len();
    let words = if count == 1 { "the model".to_owned() } else { format!("all {count} models") };
    let found = format!(
        "the device gives the reference's bits on {words} of the network; `ocelli model check` asks other runtimes"
    );
    findings.push(Finding::ok("exactness", found));
    findings.extend(models.iter().map(|model| speed(&mut *backend, model, &network.parameters)));
    findings
}

/// How many images a second, beside what full blocks would need.
fn speed(backend: &mut dyn Backend, model: &Model, parameters: &Parameters) -> Finding {
    let pictures: Vec<Vec<u8>> = golden::inputs(model.pixels());
    let images: Vec<&[u8]> = pictures.iter().cycle().take(BATCH_PICTURES).map(Vec::as_slice).collect();
    let (start, mut done) = (Instant::now(), 0);
    while start.elapsed() < MEASURE {
        if let Err(error) = backend.logits(model, &images) {
            return Finding::failed("speed", CommandError::from(error).one_line(), "use --device cpu");
        }
        done += images.len();
    }
    let rate = done as f64 / start.elapsed().as_secs_f64();
    judge_speed(model.name(), rate, task_weight(&facts_of(model)), parameters)
}

fn judge_speed(name: &str, rate: f64, weight: u64, parameters: &Parameters) -> Finding {
    let needed = parameters.weight_limit as f64 / weight as f64 / parameters.spacing.max(1) as f64;
    let found =
        format!("{name}: {rate:.0} images/s; full blocks of network {} hold {needed:.0} tasks/s", parameters.name);
    if rate >= 2.0 * needed {
        Finding::ok("speed", found)
    } else if rate >= needed {
        Finding::warning("speed", found, "the node keeps up, and catches up slowly: use a faster machine or a GPU")
    } else {
        Finding::failed("speed", found, "the node falls behind when blocks are full: use a faster machine or a GPU")
    }
}

/// Whether a node can write its data.
pub(super) fn data_folder(data: &Path) -> Finding {
    let (folder, exists) = nearest(data);
    match tempfile::Builder::new().prefix(".ocelli-doctor-").tempfile_in(folder) {
        Ok(_) if exists => Finding::ok("data folder", data.display().to_string()),
        Ok(_) => Finding::ok("data folder", format!("{} will be made by the node", data.display())),
        Err(error) => Finding::failed(
            "data folder",
            format!("cannot write to {}: {error}", folder.display()),
            "make it writable for this user, or choose another with --data FOLDER",
        ),
    }
}

/// The folder, or the nearest above it that exists.
fn nearest(data: &Path) -> (&Path, bool) {
    if data.is_dir() {
        return (data, true);
    }
    (data.ancestors().skip(1).find(|folder| folder.is_dir()).unwrap_or(Path::new(".")), false)
}

/// What is left on the disk.
pub(super) fn disk(data: &Path, network: &Network) -> Finding {
    let (folder, _) = nearest(data);
    match rustix::fs::statvfs(folder) {
        Ok(disk) => judge_disk(disk.f_bavail.saturating_mul(disk.f_frsize), &network.parameters),
        Err(error) => Finding::warning(
            "disk",
            format!("what is left at {} cannot be found out: {error}", folder.display()),
            "look with `df`",
        ),
    }
}

fn judge_disk(free: u64, parameters: &Parameters) -> Finding {
    // A block's weight counts each of its bytes at least once.
    let day = parameters.weight_limit.saturating_mul(86_400 / parameters.spacing.max(1));
    let found = format!(
        "{} free; full blocks of network {} would add at most {} a day",
        gibibytes(free),
        parameters.name,
        gibibytes(day)
    );
    let fix = "make room, or run the node with --prune SIZE";
    match free {
        GOOD_FREE.. => Finding::ok("disk", found),
        LEAST_FREE.. => Finding::warning("disk", found, fix),
        _ => Finding::failed("disk", found, fix),
    }
}

fn gibibytes(bytes: u64) -> String {
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}

/// Whether a node could listen at the usual port. Asked only where none runs.
pub(super) fn ports() -> Finding {
    let tcp = TcpListener::bind(("0.0.0.0", DEFAULT_PORT)).map(drop);
    let udp = UdpSocket::bind(("0.0.0.0", DEFAULT_PORT)).map(drop);
    match (tcp, udp) {
        (Ok(()), Ok(())) => Finding::ok("ports", format!("TCP and UDP port {DEFAULT_PORT} are free on this machine")),
        (tcp, udp) => {
            let which = if tcp.is_err() { "TCP" } else { "UDP" };
            let error = tcp.err().or(udp.err()).map(|error| error.to_string()).unwrap_or_default();
            Finding::failed(
                "ports",
                format!("{which} port {DEFAULT_PORT} cannot be used: {error}"),
                "end the program that uses it, perhaps another node, or choose others with --listen",
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Health;
    use super::*;

    #[test]
    fn speed_and_disk_are_judged() {
        let parameters = Network::builtin("local").expect("built in").parameters;
        let full = parameters.weight_limit as f64 / 4516.0 / parameters.spacing as f64;
        let speed = |rate| judge_speed("a model", rate, 4516, &parameters).health;
        assert_eq!(speed(2.01 * full), Health::Ok);
        assert_eq!(speed(1.01 * full), Health::Warning);
        assert_eq!(speed(0.99 * full), Health::Failed);
        let disk = |free| judge_disk(free, &parameters).health;
        assert_eq!(disk(10 << 30), Health::Ok);
        assert_eq!(disk((10 << 30) - 1), Health::Warning);
        assert_eq!(disk((1 << 30) - 1), Health::Failed);
        assert!(judge_disk(1 << 30, &parameters).found.contains("1.0 GiB free"));
    }

    #[test]
    fn a_folder_that_is_none_is_said() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(data_folder(folder.path()).health, Health::Ok);
        assert!(data_folder(&folder.path().join("a/b")).found.contains("will be made by the node"));
        let file = folder.path().join("file");
        std::fs::write(&file, "").expect("written");
        assert_eq!(data_folder(&file.join("data")).health, Health::Ok, "seen when the node makes it");
    }
}
