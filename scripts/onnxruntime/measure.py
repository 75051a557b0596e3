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
import onnx
import onnxruntime as ort
from onnx import TensorProto
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from PIL import Image

import export

PROJECT = Path(__file__).resolve().parents[2]
sys.path.append(str(PROJECT / "docs" / "examples"))
import run_model  # noqa: E402

BATCHES = [1, 8, 64, 256]
TRIAL_BATCH = 64


def main():
    options = parse_options()
    say = lambda text: print(text, file=sys.stderr)
    names = [model["name"] for model in ocelli(options, "model", "list")]
    pictures = read_pictures(options.pictures)
    say(f"Exporting {', '.join(names)}; comparing the labels of {len(pictures)} pictures")
    networks = [Network(name, options, pictures) for name in names]
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


def read_pictures(folder):
    """Pixels (N, 3, 32, 32) of all pictures under the folder, each also mirrored and shifted a little."""
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.suffix in (".jpg", ".png")):
        picture = np.asarray(Image.open(path).convert("RGB").resize((32, 32))).transpose(2, 0, 1)
        for view in (picture, picture[:, :, ::-1]):
            found += [np.roll(view, shift, axis=(1, 2)) for shift in ((0, 0), (2, 0), (0, 2), (-2, -2))]
    return np.stack(found)


class Network:
    """One network of ours, as f32 and as the int8 that ONNX Runtime runs fastest."""

    def __init__(self, name, options, pictures):
        self.name = name
        ours, f32, prepared = (options.work / f"{name}.{kind}" for kind in ("safetensors", "f32.onnx", "prepared.onnx"))
        subprocess.run([options.ocelli, "model", "export", name, "-o", ours], check=True, stdout=subprocess.DEVNULL)
        graph, tensors = run_model.load(ours)
        onnx.save(export.to_onnx(graph, tensors), f32)
        quant_pre_process(f32, prepared, skip_symbolic_shape=True)
        candidates = {}
        for form in (QuantFormat.QDQ, QuantFormat.QOperator):
            path = options.work / f"{name}.{form.name}.onnx"
            quantize_static(prepared, path, Pixels(pictures), quant_format=form, per_channel=True,
                            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, reduce_range=reduces_range())
            take_bytes(path)
            candidates[form.name] = path
        labels = np.array([np.argmax(run_model.logits(graph, tensors, picture.tobytes())) for picture in pictures])
        self.sessions = {"f32": session(f32, options.threads)}
        self.trials = {}
        for form, path in candidates.items():
            self.sessions[form] = session(path, options.threads)
            self.trials[form] = rate(self.sessions[form], TRIAL_BATCH, options.seconds)["images_per_second"]
        self.form = max(self.trials, key=self.trials.get)
        self.agreement = {"f32": float(np.mean(labels_of(self.sessions["f32"], pictures) == labels))}
        for form in candidates:
            self.agreement[form] = float(np.mean(labels_of(self.sessions[form], pictures) == labels))
        # One session a core: processes, so that they do not wait for each other's Python.
        self.pool = multiprocessing.get_context("spawn").Pool(options.threads, start_worker, (candidates[self.form],))
        self.workers = options.threads

    def measure(self, options):
        """Images/s and the median time of a batch, by peer and batch size."""
        measured = {"f32": {}, "int8": {}, "int8_sessions": {}}
        for batch in BATCHES:
            measured["f32"][batch] = rate(self.sessions["f32"], batch, options.seconds)
            measured["int8"][batch] = rate(self.sessions[self.form], batch, options.seconds)
            begin = time.time() + 0.1
            parts = self.pool.map(worker_rate, [(batch, options.seconds, begin)] * self.workers, chunksize=1)
            measured["int8_sessions"][batch] = {
                "images_per_second": sum(part["images_per_second"] for part in parts),
                "p50_us": max(part["p50_us"] for part in parts),
            }
        return measured


class Pixels(CalibrationDataReader):
    """Hands the pictures to the calibration, one a batch, after the darkest and the brightest one there can be."""

    def __init__(self, pictures):
        extremes = np.stack([np.zeros_like(pictures[0]), np.full_like(pictures[0], 255)])
        self.batches = iter({"pixels": halved(picture[None])} for picture in np.concatenate([extremes, pictures]))

    def get_next(self):
        return next(self.batches, None)


def halved(pixels):
    return (pixels >> 1).astype(np.float32)


def take_bytes(path):
    """Lets the network begin with bytes, as ours does, instead of turning floats into bytes first."""
    model = onnx.load(path)
    first = next(node for node in model.graph.node if node.op_type == "QuantizeLinear" and node.input[0] == "pixels")
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            if name == first.output[0]:
                node.input[place] = "pixels"
    model.graph.node.remove(first)
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    onnx.save(model, path)


def cpu_flags():
    try:
        return set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return set()


def reduces_range():
    """Whether weights get 7 bits, as ONNX Runtime's documentation advises for x86 without VNNI: its sums of pairs saturate."""
    return platform.machine() in ("x86_64", "AMD64") and not cpu_flags() & {"avx512_vnni", "avx_vnni"}


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


def batch_for(a_session, pixels):
    pixels = np.ascontiguousarray(pixels)
    return {"pixels": pixels if a_session.get_inputs()[0].type == "tensor(uint8)" else halved(pixels)}


def labels_of(a_session, pictures):
    return np.concatenate([np.argmax(a_session.run(None, batch_for(a_session, part))[0], axis=1)
                           for part in np.array_split(pictures, max(1, len(pictures) // 64))])


def rate(a_session, batch, seconds, begin=0.0):
    """Runs batches for so long, from a point in time on, after some that are not timed. Inputs and outputs are bound once:
    what Python adds to a call is as little as it can be."""
    shape = [batch, *a_session.get_inputs()[0].shape[1:]]
    pixels = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    binding = a_session.io_binding()
    binding.bind_cpu_input("pixels", batch_for(a_session, pixels)["pixels"])
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
            for peer in ("f32", "int8", "int8_sessions"):
                theirs = [a_round["peers"][place][peer][batch]["images_per_second"] for a_round in rounds]
                row[peer] = {"images_per_second": statistics.median(theirs),
                             "ratio": statistics.median(one / other for one, other in zip(ours, theirs))}
            results.append(row)
    last = rounds[-1]["ocelli"]
    report = {
        "device": last["device"], "kernel": last.get("kernel"), "threads": options.threads, "rounds": options.rounds,
        "onnxruntime": ort.__version__, "instructions": instructions(), "load": os.getloadavg()[0],
        "networks": [{"model": network.name, "int8": network.form, "weight_bits": 7 if reduces_range() else 8,
                      "trials": network.trials, "agreement": network.agreement} for network in networks],
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
        agreement = ", ".join(f"{kind} {share:.1%}" for kind, share in network["agreement"].items())
        trials = ", ".join(f"{form} {images:,.0f}" for form, images in network["trials"].items())
        print(f"{network['model']}: same labels {agreement}; int8 as {network['int8']} (images/s: {trials}), "
              f"weights of {network['weight_bits']} bits")
    sessions = f"{report['threads']} SESSIONS"
    print(f"{'MODEL':<18} {'BATCH':>5} {'OCELLI':>9} {'F32':>9} {'RATIO':>6} {'INT8':>9} {'RATIO':>6} {sessions:>11} {'RATIO':>6}")
    for row in report["results"]:
        peers = " ".join(f"{row[peer]['images_per_second']:>{width},.0f} {row[peer]['ratio']:>6.2f}"
                         for peer, width in (("f32", 9), ("int8", 9), ("int8_sessions", 11)))
        print(f"{row['model']:<18} {row['batch']:>5} {row['images_per_second']:>9,.0f} {peers}")
    if "verifications_per_second" in report:
        print(f"Ed25519 verify_strict: {report['verifications_per_second']:,.0f} checks/s on the same cores")


if __name__ == "__main__":
    main()
