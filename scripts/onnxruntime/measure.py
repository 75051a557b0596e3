"""Measures `ocelli bench inference` and ONNX Runtime on the same networks in turns; see `scripts/bench inference --help`."""

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort
from PIL import Image

PROJECT = Path(__file__).resolve().parents[2]
sys.path.append(str(PROJECT / "docs" / "examples"))
import run_model  # noqa: E402

BATCHES = [1, 8, 64, 256]
# Weights as u8, and as i8 where activations are at most 127.
FORMS = ("u8", "i8")
PEERS = (*FORMS, "sessions")


def main():
    options = parse_options()
    say = lambda text: print(text, file=sys.stderr)
    names = [model["name"] for model in ocelli(options, "model", "list")]
    say(f"Exporting {', '.join(names)}; comparing the logits of the pictures in {options.pictures}")
    networks = [Network(name, options) for name in names]
    rounds = []
    for number in range(options.rounds):
        say(f"Round {number + 1} of {options.rounds}")
        ours = ocelli(options, "bench", "inference", "--seconds", str(options.seconds))
        rounds.append({"ocelli": ours, "peers": [network.measure(options) for network in networks]})
    report = summarise(networks, rounds, options)
    print_table(report)
    if options.json:
        print(json.dumps(report))


def parse_options():
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--ocelli", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=1)
    parser.add_argument("--pictures", type=Path, default=PROJECT / "assets" / "cifar10")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    options.threads = os.cpu_count()
    return options


def ocelli(options, *arguments):
    done = subprocess.run([options.ocelli, *arguments, "--json"], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


def read_pictures(folder, width, height):
    """Pixels (N, 3, height, width) of all pictures under the folder, each also mirrored and shifted a little."""
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.suffix in (".jpg", ".png")):
        picture = np.asarray(Image.open(path).convert("RGB").resize((width, height))).transpose(2, 0, 1)
        for view in (picture, picture[:, :, ::-1]):
            found += [np.roll(view, shift, axis=(1, 2)) for shift in ((0, 0), (2, 0), (0, 2), (-2, -2))]
    return np.stack(found)


class Network:
    """One network of ours, written for ONNX Runtime: the same integers, in two forms of weights."""

    def __init__(self, name, options):
        self.name = name
        ours = options.work / f"{name}.safetensors"
        subprocess.run([options.ocelli, "model", "export", name, "-o", ours], check=True, stdout=subprocess.DEVNULL)
        graph, tensors = run_model.load(ours)
        pictures = read_pictures(options.pictures, graph["input"]["width"], graph["input"]["height"])
        logits = np.array([run_model.logits(graph, tensors, picture.tobytes()) for picture in pictures])
        self.sessions, self.same, trials = {}, {}, {}
        for form in FORMS:
            path = options.work / f"{name}.{form}.onnx"
            export = [options.ocelli, "model", "export", name, "--weights", form, "-o", path]
            subprocess.run(export, check=True, stdout=subprocess.DEVNULL)
            self.sessions[form] = session(path, options.threads)
            found = np.concatenate([self.sessions[form].run(None, {"pixels": part})[0]
                                    for part in np.array_split(pictures, max(1, len(pictures) // 64))])
            self.same[form] = float(np.mean(found == logits))
            trials[form] = rate(self.sessions[form], 64, options.seconds)["images_per_second"]
        # One session a core, of the faster form: processes, so that they do not wait for each other's Python.
        self.form = max(trials, key=trials.get)
        path = options.work / f"{name}.{self.form}.onnx"
        self.pool = multiprocessing.get_context("spawn").Pool(options.threads, start_worker, (path,))
        self.workers = options.threads

    def measure(self, options):
        """Images/s and the median time of a batch, by peer and batch size."""
        measured = {peer: {} for peer in PEERS}
        for batch in BATCHES:
            for form in FORMS:
                measured[form][batch] = rate(self.sessions[form], batch, options.seconds)
            begin = time.time() + 0.1
            parts = self.pool.map(worker_rate, [(batch, options.seconds, begin)] * self.workers, chunksize=1)
            measured["sessions"][batch] = {
                "images_per_second": sum(part["images_per_second"] for part in parts),
                "p50_us": max(part["p50_us"] for part in parts),
            }
        return measured


def cpu_flags():
    try:
        return set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return set()


def instructions():
    """The widest of what its int8 kernels know, to say beside the figures."""
    flags = cpu_flags()
    known = ("amx_int8", "avx512_vnni", "avx_vnni", "avx512bw", "avx2", "i8mm", "asimddp")
    return next((flag for flag in known if flag in flags), "unknown")


def session(path, threads):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def rate(a_session, batch, seconds, begin=0.0):
    """Runs batches for so long, from a point in time on, after some that are not timed. Inputs and outputs are bound once:
    what Python adds to a call is as little as it can be."""
    shape = [batch, *a_session.get_inputs()[0].shape[1:]]
    pixels = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    binding = a_session.io_binding()
    binding.bind_cpu_input("pixels", pixels)
    binding.bind_output(a_session.get_outputs()[0].name)
    for _ in range(3):
        a_session.run_with_iobinding(binding)
    time.sleep(max(0.0, begin - time.time()))
    times, start = [], time.perf_counter()
    last = start
    while len(times) < 5 or last - start < seconds:
        a_session.run_with_iobinding(binding)
        now = time.perf_counter()
        times.append(now - last)
        last = now
    return {"images_per_second": batch * len(times) / (last - start), "p50_us": statistics.median(times) * 1e6}


def start_worker(path):
    global worker_session
    worker_session = session(path, 1)


def worker_rate(arguments):
    return rate(worker_session, *arguments)


def summarise(networks, rounds, options):
    """Medians over the rounds; a ratio is the median of the rounds' ratios, whose two sides ran right after each other."""
    results = []
    for place, network in enumerate(networks):
        for batch in BATCHES:
            ours = [next(row["images_per_second"] for row in a_round["ocelli"]["results"]
                         if (row["model"], row["batch"]) == (network.name, batch)) for a_round in rounds]
            row = {"model": network.name, "batch": batch, "images_per_second": statistics.median(ours)}
            for peer in PEERS:
                theirs = [a_round["peers"][place][peer][batch]["images_per_second"] for a_round in rounds]
                row[peer] = {"images_per_second": statistics.median(theirs),
                             "ratio": statistics.median(one / other for one, other in zip(ours, theirs))}
            results.append(row)
    last = rounds[-1]["ocelli"]
    report = {
        "device": last["device"], "kernel": last.get("kernel"), "threads": options.threads, "rounds": options.rounds,
        "onnxruntime": ort.__version__, "instructions": instructions(), "load": os.getloadavg()[0],
        "networks": [{"model": network.name, "same_logits": network.same, "sessions": network.form} for network in networks],
        "results": results,
    }
    if "verifications_per_second" in last:
        report["verifications_per_second"] = statistics.median(
            a_round["ocelli"]["verifications_per_second"] for a_round in rounds)
    return report


def print_table(report):
    print(f"{report['device']}, kernel {report['kernel']}, {report['threads']} threads; "
          f"ONNX Runtime {report['onnxruntime']} on {report['instructions']}; "
          f"medians of {report['rounds']} rounds, load {report['load']:.1f}")
    for network in report["networks"]:
        same = ", ".join(f"{form} {share:.1%}" for form, share in network["same_logits"].items())
        print(f"{network['model']}: same logits {same}; {report['threads']} sessions of {network['sessions']}")
    sessions = f"{report['threads']} SESSIONS"
    print(f"{'MODEL':<18} {'BATCH':>5} {'OCELLI':>9} {'U8':>9} {'RATIO':>6} {'I8':>9} {'RATIO':>6} {sessions:>11} {'RATIO':>6}")
    for row in report["results"]:
        peers = " ".join(f"{row[peer]['images_per_second']:>{width},.0f} {row[peer]['ratio']:>6.2f}"
                         for peer, width in zip(PEERS, (9, 9, 11)))
        print(f"{row['model']:<18} {row['batch']:>5} {row['images_per_second']:>9,.0f} {peers}")
    if "verifications_per_second" in report:
        print(f"Ed25519 verify_strict: {report['verifications_per_second']:,.0f} checks/s on the same cores")


if __name__ == "__main__":
    main()
