"""Measures `ocelli bench networks`, ONNX Runtime and LiteRT on the same networks in turns; see `scripts/bench inference --help`."""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime as ort
from ai_edge_litert.interpreter import Interpreter

import int8
import litert

PROJECT = Path(__file__).resolve().parents[2]
sys.path.append(str(PROJECT / "docs" / "examples"))
import run_model  # noqa: E402

BUILT_IN = ("cifar10-cnn", "cifar10-resnet")
STANDARD = ("mobilenet-v2", "efficientnet-lite0", "resnet-50")
BATCHES = [1, 8]
# Weights as u8; as i8 where the processor makes that exact; XNNPACK.
PEERS = ("u8", "i8", "litert")


def main():
    options = parse_options()
    say = lambda text: print(text, file=sys.stderr)
    say(f"Writing {', '.join(options.network)}")
    networks = [Network(name, options) for name in options.network]
    rows = []
    for network in networks:
        for threads in options.threads:
            for batch in BATCHES:
                say(f"{network.name}, batch {batch}, {threads} threads")
                rows.append(network.measure(batch, threads, options))
    report = {
        "processor": processor(), "instructions": int8.instructions(), "kernel": networks[0].kernel, "load": os.getloadavg()[0],
        "rounds": options.rounds, "onnxruntime": ort.__version__,
        "same_logits": {network.name: network.same for network in networks}, "results": rows,
    }
    print_table(report)
    if options.json:
        print(json.dumps(report))


def parse_options():
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--ocelli", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--milliseconds", type=int, default=700)
    parser.add_argument("--network", action="append")
    parser.add_argument("--threads", type=int, action="append")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    usual = [*BUILT_IN, *(name + bits for name in STANDARD for bits in ("", "-8bit"))]
    options.network = options.network or usual
    options.threads = options.threads or [1, 2]
    return options


def ocelli(options, *arguments):
    done = subprocess.run([options.ocelli, "bench", "networks", *arguments, "--json"], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout)


class Network:
    """One network of ours, written for its peers."""

    def __init__(self, name, options):
        self.name = name
        self.kernel = ocelli(options, "--network", name, "--write", options.work)["kernel"]
        ours = options.work / f"{name}.safetensors"
        graph, tensors = run_model.load(ours)
        shape = [graph["input"][key] for key in ("channels", "height", "width")]
        self.pixels = np.fromfile(options.work / f"{name}.pixels", np.uint8).reshape(-1, *shape)
        logits = np.fromfile(options.work / f"{name}.logits", np.int32).reshape(len(self.pixels), -1)
        self.files, self.same = {}, {}
        for form, weights in (("u8", "u8"), ("i8", int8.weights())):
            self.files[form] = options.work / f"{name}.{form}.onnx"
            command = [options.ocelli, "model", "export", ours, "-o", self.files[form], "--weights", weights]
            subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
            found = session(self.files[form], 1).run(None, {"pixels": self.pixels})[0]
            self.same[form] = float(np.mean(found == logits))
        if not name.startswith("cifar10"):
            self.files["litert"] = litert.to_tflite(graph, tensors)

    def measure(self, batch, threads, options):
        """By turns. Each figure is the best of all rounds, in milliseconds for an image: others' load only adds."""
        runners = {}
        for form in ("u8", "i8"):
            runners[form] = onnx_runner(session(self.files[form], threads), self.pixels, batch)
        if "litert" in self.files:
            runners["litert"] = litert_runner(self.files["litert"], self.pixels, batch, threads)
        times = {name: [] for name in ("ocelli", *runners)}
        for _ in range(options.rounds):
            ours = ocelli(options, "--network", self.name, "--batch", str(batch), "--threads", str(threads),
                          "--milliseconds", str(options.milliseconds))
            times["ocelli"].append(ours["results"][0]["best_ms"])
            for name, run in runners.items():
                times[name].append(best(run, options.milliseconds / 1e3) * 1e3 / batch)
        best_of = {name: min(all_) for name, all_ in times.items()}
        # Of each round by itself, since the machine's speed strays from round to round.
        ratios = {name: statistics.median(theirs / ours for theirs, ours in zip(times[name], times["ocelli"])) for name in runners}
        return {"network": self.name, "batch": batch, "threads": threads, "milliseconds": best_of,
                "ratio_of_bests": {name: best_of[name] / best_of["ocelli"] for name in runners}, "median_ratio": ratios}


def best(run, seconds):
    for _ in range(2):
        run()
    least, start, runs = float("inf"), time.perf_counter(), 0
    while runs < 5 or time.perf_counter() - start < seconds:
        begin = time.perf_counter()
        run()
        least, runs = min(least, time.perf_counter() - begin), runs + 1
    return least


def session(path, threads):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def onnx_runner(a_session, pixels, batch):
    """Inputs and outputs are bound once: what Python adds to a call is as little as it can be."""
    binding = a_session.io_binding()
    binding.bind_cpu_input("pixels", np.resize(pixels, (batch, *pixels.shape[1:])))
    binding.bind_output(a_session.get_outputs()[0].name)
    return lambda: a_session.run_with_iobinding(binding)


def litert_runner(file, pixels, batch, threads):
    """Images go one by one or together, as the format's first dimension is resized."""
    interpreter = Interpreter(model_content=file, num_threads=threads)
    place = interpreter.get_input_details()[0]["index"]
    signed = (np.resize(pixels, (batch, *pixels.shape[1:])).transpose(0, 2, 3, 1).astype(np.int16) - 128).astype(np.int8)
    interpreter.resize_tensor_input(place, signed.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(place, np.ascontiguousarray(signed))
    return interpreter.invoke


def processor():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "unknown"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def print_table(report):
    print(f"{report['processor']} with {report['instructions']}, kernel {report['kernel']}; ONNX Runtime {report['onnxruntime']}; "
          f"best of {report['rounds']} rounds by turns, ms an image; load {report['load']:.1f}")
    for name, same in report["same_logits"].items():
        print(f"{name}: same logits " + ", ".join(f"{form} {share:.1%}" for form, share in same.items()))
    print(f"{'NETWORK':<24} {'BATCH':>5} {'THREADS':>7} {'OCELLI':>8}" + "".join(f" {peer.upper():>8} {'RATIO':>6}" for peer in PEERS))
    for row in report["results"]:
        peers = "".join(
            f" {row['milliseconds'][peer]:>8.3f} {row['ratio_of_bests'][peer]:>6.2f}" if peer in row["milliseconds"] else f"{'':16}"
            for peer in PEERS)
        print(f"{row['network']:<24} {row['batch']:>5} {row['threads']:>7} {row['milliseconds']['ocelli']:>8.3f}{peers}")


if __name__ == "__main__":
    main()
