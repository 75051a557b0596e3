"""Asks a node and ONNX Runtime behind FastAPI in turns, and prints requests a second. Started by scripts/bench-api."""

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

MODEL = "cifar10-cnn"
SIDES = (3, 32, 32)
PICTURE = 3 * 32 * 32
BATCHES = (1, 8, 64)
CONNECTIONS = 32
# Pictures that clients ask for at a time, at the most: half of what a node lets wait.
PICTURES = 512


def main():
    options = parse_options()
    say = lambda text: print(text, file=sys.stderr)
    server = Server(options)
    cases = [Classify(options)] + [Infer(options, batch) for batch in BATCHES]
    found = {case.name: {"ocelli": [], "fastapi": []} for case in cases}
    try:
        for number in range(options.rounds):
            say(f"Round {number + 1} of {options.rounds}")
            for case in cases:
                found[case.name]["ocelli"].append(ask(options, options.node + case.path, case))
                found[case.name]["fastapi"].append(ask(options, server.url + case.peer_path, case, case.peer_body))
    finally:
        server.stop()
    report = [summarise(name, found[name]) for name in found]
    print(f"{'':14} {'ocelli':>28} {'ONNX Runtime, FastAPI, uvicorn':>34}")
    print(f"{'':14} {'requests/s':>12} {'p50 ms':>7} {'p99 ms':>7} {'requests/s':>18} {'p50 ms':>7} {'p99 ms':>7} {'times':>7}")
    for row in report:
        ours, theirs = row["ocelli"], row["fastapi"]
        print(f"{row['name']:14} {ours['rate']:12.0f} {ours['p50_ms']:7.2f} {ours['p99_ms']:7.2f} "
              f"{theirs['rate']:18.0f} {theirs['p50_ms']:7.2f} {theirs['p99_ms']:7.2f} {row['times']:7.1f}")
    if options.json:
        print(json.dumps({"model": MODEL, "connections": CONNECTIONS, "cases": report}))


def parse_options():
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--ocelli", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--node", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


class Classify:
    """A picture's file: a BMP, in which pixels can be changed without encoding it anew."""

    name, path, peer_path, headers, batch = "classify", "/v1/classify", "/v1/classify", "", 1

    def __init__(self, options):
        fields = [54 + PICTURE, 0, 54, 40, 32, 32, 1 + (24 << 16), 0, PICTURE, 2835, 2835, 0, 0]
        head = b"BM" + b"".join(field.to_bytes(4, "little") for field in fields)
        self.body = self.peer_body = write(options, "picture.bmp", head + bytes(PICTURE))
        self.pixels = self.peer_pixels = len(head)


class Infer:
    """Pixels as bytes, by the binary tensor extension; to the peer without its JSON."""

    def __init__(self, options, batch):
        self.name, self.path, self.peer_path = f"infer, {batch}", f"/v2/models/{MODEL}/infer", "/infer"
        self.batch, size = batch, batch * PICTURE
        tensor = {"name": "pixels", "shape": [batch, *SIDES], "datatype": "UINT8", "parameters": {"binary_data_size": size}}
        wanted = [{"name": "logits", "parameters": {"binary_data": True}}]
        head = json.dumps({"inputs": [tensor], "outputs": wanted}).encode()
        self.headers = f"Inference-Header-Content-Length: {len(head)}"
        self.body, self.pixels = write(options, f"infer-{batch}", head + bytes(size)), len(head)
        self.peer_body = write(options, f"peer-{batch}", bytes(size))


def write(options, name, contents):
    path = options.work / name
    path.write_bytes(contents)
    return path


class Server:
    """The same model in ONNX Runtime: one worker a core, each with one thread, as is fastest for small requests."""

    def __init__(self, options):
        network = options.work / f"{MODEL}.onnx"
        command = [options.ocelli, "model", "export", MODEL, "-o", network, "--weights", "u8"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        with urllib.request.urlopen(f"{options.node}/v1/models/{MODEL}") as answer:
            model = json.load(answer)
        environment = {**os.environ, "OCELLI_ONNX": str(network), "OCELLI_THREADS": "1",
                       "OCELLI_CLASSES": ",".join(model["labels"]), "OCELLI_SCALE": str(model["scale"])}
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


def ask(options, url, case, peer_body=None):
    """Requests a second of one server, and what they take."""
    pixels = case.pixels if peer_body is None or peer_body == case.body else 0
    headers = case.headers if peer_body is None else ""
    environment = {**os.environ, "BODY": str(peer_body or case.body), "PIXELS": str(pixels), "EVERY": str(PICTURE), "HEADERS": headers}
    command = ["wrk", "-t", "1", "-c", str(min(CONNECTIONS, PICTURES // case.batch)), "-d", str(options.seconds), "-s", Path(__file__).with_name("post.lua"), url]
    said = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    line = next(line for line in said.splitlines() if line.startswith("RESULT "))
    requests, duration, p50, p99, errors = map(int, line.split()[1:])
    if errors:
        raise SystemExit(f"{errors} of {requests} requests to {url} failed")
    return {"rate": requests / (duration / 1e6), "p50_ms": p50 / 1e3, "p99_ms": p99 / 1e3}


def summarise(name, rounds):
    median = {who: {key: statistics.median(one[key] for one in found) for key in found[0]} for who, found in rounds.items()}
    return {"name": name, **median, "times": median["ocelli"]["rate"] / median["fastapi"]["rate"]}


if __name__ == "__main__":
    main()
