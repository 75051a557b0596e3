"""Asks a node and ONNX Runtime behind FastAPI in turns, and prints requests a second. Started by scripts/bench-api."""

import argparse
import io
import json
import os
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.append(str(Path(__file__).resolve().parents[1] / "onnxruntime"))
import int8  # noqa: E402

BATCHES = (1, 8, 64)
CONNECTIONS = 32
# Bytes of pictures that clients ask for at a time, at the most: what a node lets wait is more.
AT_ONCE = 12 << 20


def main():
    options = parse_options()
    report = [row for name in options.model or ["cifar10-cnn", "mobilenet-v2"] for row in measure(options, name)]
    print(f"{'':26} {'ocelli':>28} {'ONNX Runtime, FastAPI, uvicorn':>34}")
    print(f"{'':26} {'requests/s':>12} {'p50 ms':>7} {'p99 ms':>7} {'requests/s':>18} {'p50 ms':>7} {'p99 ms':>7} {'times':>7}")
    for row in report:
        ours, theirs = row["ocelli"], row["fastapi"]
        print(f"{row['name']:26} {ours['rate']:12.0f} {ours['p50_ms']:7.2f} {ours['p99_ms']:7.2f} "
              f"{theirs['rate']:18.0f} {theirs['p50_ms']:7.2f} {theirs['p99_ms']:7.2f} {row['times']:7.1f}")
    if options.json:
        print(json.dumps({"connections": CONNECTIONS, "cases": report}))


def parse_options():
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--ocelli", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--node", required=True)
    parser.add_argument("--large", type=Path, required=True)
    parser.add_argument("--model", action="append")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def measure(options, name):
    """All cases of one model, by turns."""
    model = Model(options, name)
    server = Server(options, model)
    cases = [Case.classify(options, model)] + [Case.infer(options, model, batch) for batch in BATCHES]
    found = {case.name: {"ocelli": [], "fastapi": []} for case in cases}
    try:
        for number in range(options.rounds):
            print(f"{name}, round {number + 1} of {options.rounds}", file=sys.stderr)
            for case in cases:
                before = pictures_run(options)
                ours = ask(options, options.node, case)
                if pictures_run(options) - before < ours["requests"] * case.batch:
                    raise SystemExit("the node has remembered answers, which its peer does not")
                found[case.name]["ocelli"].append(ours)
                found[case.name]["fastapi"].append(ask(options, server.url, case))
    finally:
        server.stop()
    return [summarise(name, found[name]) for name in found]


def pictures_run(options):
    with urllib.request.urlopen(f"{options.node}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("ocelli_inference_computed_pictures_total "))


class Model:
    def __init__(self, options, name):
        self.name, self.side = name, 32 if name == "cifar10-cnn" else 224
        self.pixels = 3 * self.side * self.side
        self.file = name if name == "cifar10-cnn" else options.large
        inspected = subprocess.run([options.ocelli, "model", "inspect", self.file, "--json"], check=True, stdout=subprocess.PIPE)
        told = json.loads(inspected.stdout)
        self.id, self.labels, self.scale = told["id"], told["classes"], told["scale"]


class Case:
    """What is asked of both: as many bodies as no two that wait are the same."""

    def __init__(self, options, name, path, batch, picture_bytes, make):
        self.name, self.path, self.batch = name, path, batch
        self.connections = max(1, min(CONNECTIONS, AT_ONCE // (batch * picture_bytes)))
        chance = np.random.default_rng(1)
        made = [make(chance) for _ in range(4 * self.connections)]
        self.bodies = write(options.work / name.replace(" ", "-").replace(",", ""), [head + body for head, body in made])
        self.headers = f"Inference-Header-Content-Length: {len(made[0][0])}" if made[0][0] else ""

    @staticmethod
    def classify(options, model):
        """A picture's file: a BMP for 32x32 pixels, a JPEG for more."""
        path = f"/v1/classify?model={model.id}"

        def make(chance):
            rough = chance.integers(0, 256, (12, 12, 3), np.uint8)
            picture = Image.fromarray(rough).resize((model.side, model.side), Image.Resampling.BICUBIC)
            file = io.BytesIO()
            picture.save(file, **({"format": "BMP"} if model.side == 32 else {"format": "JPEG", "quality": 90}))
            return b"", file.getvalue()

        return Case(options, f"{model.name}, classify", path, 1, model.pixels, make)

    @staticmethod
    def infer(options, model, batch):
        """Pixels as bytes, by the binary tensor extension."""
        size = batch * model.pixels
        tensor = {"name": "pixels", "shape": [batch, 3, model.side, model.side], "datatype": "UINT8", "parameters": {"binary_data_size": size}}
        wanted = [{"name": "logits", "parameters": {"binary_data": True}}]
        head = json.dumps({"inputs": [tensor], "outputs": wanted}).encode()
        path = f"/v2/models/{model.id}/infer"
        return Case(options, f"{model.name}, infer, {batch}", path, batch, model.pixels, lambda chance: (head, chance.bytes(size)))


def write(path, bodies):
    """All of them in one file, and how many bytes each has in another."""
    path.write_bytes(b"".join(bodies))
    path.with_name(path.name + ".sizes").write_text("".join(f"{len(body)}\n" for body in bodies))
    return path


class Server:
    """The same model in ONNX Runtime: one worker a core, each with one thread, as is fastest for small requests."""

    def __init__(self, options, model):
        network = options.work / f"{model.name}.onnx"
        command = [options.ocelli, "model", "export", model.file, "-o", network, "--weights", int8.weights()]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        environment = {**os.environ, "OCELLI_ONNX": str(network), "OCELLI_THREADS": "1", "OCELLI_SIDE": str(model.side),
                       "OCELLI_CLASSES": ",".join(model.labels), "OCELLI_SCALE": str(model.scale)}
        command = [sys.executable, "-m", "uvicorn", "server:app", "--port", str(port), "--log-level", "warning",
                   "--workers", str(os.cpu_count())]
        self.process = subprocess.Popen(command, cwd=Path(__file__).parent, env=environment)
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"{self.url}/openapi.json").close()
                return
            except OSError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise SystemExit("uvicorn does not answer") from None
                time.sleep(0.2)

    def stop(self):
        self.process.terminate()
        self.process.wait()


def ask(options, server, case):
    """Requests a second of one server, and what they take."""
    url = server + case.path
    environment = {**os.environ, "BODIES": str(case.bodies), "HEADERS": case.headers}
    command = ["wrk", "-t", "1", "-c", str(case.connections), "-d", str(options.seconds), "-s", Path(__file__).with_name("post.lua"), url]
    said = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    line = next(line for line in said.splitlines() if line.startswith("RESULT "))
    requests, duration, p50, p99, errors = map(int, line.split()[1:])
    if errors or not requests:
        raise SystemExit(f"{errors} of {requests} requests to {url} failed")
    return {"requests": requests, "rate": requests / (duration / 1e6), "p50_ms": p50 / 1e3, "p99_ms": p99 / 1e3}


def summarise(name, rounds):
    median = {who: {key: statistics.median(one[key] for one in found) for key in found[0]} for who, found in rounds.items()}
    return {"name": name, **median, "times": median["ocelli"]["rate"] / median["fastapi"]["rate"]}


if __name__ == "__main__":
    main()
