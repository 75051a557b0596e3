"""Clients that ask, and clients that vanish, for as long as is said; tells what the node's memory does and what blocks waited for.
Started by scripts/bench-api."""

import argparse
import asyncio
import contextlib
import json
import random
import socket
import struct
import sys
import time
import urllib.parse
import urllib.request
from collections import Counter
from pathlib import Path

SIDE = 32
MODEL = "cifar10-cnn"
# What batches are run for, as the node counts them.
PURPOSES = ("blocks", "paid", "free")


def main():
    options = parse_options()
    node = Node(options)
    memory, counts = asyncio.run(load(options, node))
    report = {
        "seconds": options.seconds, "requests": dict(sorted(counts.items())), "memory_kib": memory,
        "inference": {purpose: node.batches(purpose) for purpose in PURPOSES},
    }
    early, end = memory["early"], memory["end"]
    print(f"memory: {early['kib']} KiB after {early['seconds']} s, {end['kib']} KiB after {end['seconds']} s "
          f"({end['kib'] / early['kib']:.2f} times), at most {memory['most']['kib']} KiB")
    print("clients: " + ", ".join(f"{count} {what}" for what, count in sorted(counts.items())))
    print(f"{'batches for':12} {'number':>8} {'took at most ms':>16} {'waited at most ms':>18}")
    for purpose, found in report["inference"].items():
        print(f"{purpose:12} {found['batches']:8} {found['took_at_most_ms']:16.1f} {found['waited_at_most_ms']:18.1f}")
    if options.json:
        # JSON knows no infinity: beyond the highest bound.
        for found in report["inference"].values():
            found.update({key: None for key, value in found.items() if value == float("inf")})
        print(json.dumps(report))


def parse_options():
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--node", required=True)
    parser.add_argument("--pid", type=int, required=True)
    parser.add_argument("--picture", type=Path, required=True)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


class Node:
    def __init__(self, options):
        at = urllib.parse.urlsplit(options.node)
        self.url, self.host, self.port, self.pid = options.node, at.hostname, at.port, options.pid

    def resident(self):
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")))

    def batches(self, purpose):
        """How many were run for that, and the upper bounds of the highest buckets that are not empty."""
        with urllib.request.urlopen(f"{self.url}/metrics") as answer:
            lines = answer.read().decode().splitlines()
        most = {}
        for name in ("batch_duration", "wait"):
            start = f"ocelli_inference_{name}_seconds_bucket{{"
            buckets = [line for line in lines if line.startswith(start) and f'purpose="{purpose}"' in line]
            counted = [(float(line.partition('le="')[2].partition('"')[0]), int(line.split()[-1])) for line in buckets]
            total = counted[-1][1]
            most[name] = next(bound for bound, count in counted if count == total) * 1e3 if total else 0.0
        return {"batches": total, "took_at_most_ms": most["batch_duration"], "waited_at_most_ms": most["wait"]}


async def load(options, node):
    counts = Counter()
    tasks = [asyncio.create_task(client(options, node, random.Random(options.seed * 100_000 + number), counts)) for number in range(options.clients)]
    begun, memory = time.monotonic(), {}
    early = min(60, max(1, options.seconds // 10))
    while (now := int(time.monotonic() - begun)) < options.seconds:
        await asyncio.sleep(min(1, options.seconds - now))
        for task in tasks:
            if task.done():
                raise SystemExit(f"a client failed: {task.exception()!r}")
        seen = {"seconds": round(time.monotonic() - begun), "kib": node.resident()}
        if "early" not in memory and seen["seconds"] >= early:
            memory["early"] = seen
        memory["end"] = seen
        memory["most"] = max(memory.get("most", seen), seen, key=lambda one: one["kib"])
        if seen["seconds"] % 60 == 0:
            print(f"{seen['seconds']} s: {seen['kib']} KiB, {sum(counts.values())} clients", file=sys.stderr)
    for task in tasks:
        task.cancel()
    return memory, counts


async def client(options, node, chance, counts):
    """One after the other: each has a connection of its own, and asks or vanishes as chance has it."""
    file = options.picture.read_bytes()
    while True:
        reader, writer = await asyncio.open_connection(node.host, node.port)
        try:
            what = chance.choice(DEEDS)
            with contextlib.suppress(ConnectionError):
                counts[await what(reader, writer, chance, file)] += 1
        finally:
            if chance.random() < 0.5:
                # As a machine that is gone: no end, but a reset.
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.close()


def post(path, body, headers=""):
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


def infer(chance, pictures):
    pixels = chance.randbytes(pictures * 3 * SIDE * SIDE)
    tensor = {"name": "pixels", "shape": [pictures, 3, SIDE, SIDE], "datatype": "UINT8", "parameters": {"binary_data_size": len(pixels)}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    return post(f"/v2/models/{MODEL}/infer", head + pixels, f"Inference-Header-Content-Length: {len(head)}\r\n")


async def answered(reader, writer, request):
    """Whether it was, or too much waited; all else is a fault."""
    writer.write(request)
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (ConnectionError, asyncio.IncompleteReadError):
        # Too much waits, which the node has said before it has read all of the request.
        return "cut off"
    status = int(head.split()[1])
    length = next(int(line.split(b":")[1]) for line in head.lower().splitlines() if line.startswith(b"content-length"))
    body = await reader.readexactly(length)
    if status not in (200, 503):
        raise OSError(f"found {status}, expected 200 or 503: {body[:500].decode(errors='replace')}")
    return "answered" if status == 200 else "told to come back"


async def classifies(reader, writer, chance, file):
    return await answered(reader, writer, post("/v1/classify", file))


async def infers(reader, writer, chance, file):
    return await answered(reader, writer, infer(chance, chance.choice((1, 8, 64, 256))))


async def leaves_before_the_answer(reader, writer, chance, file):
    writer.write(infer(chance, chance.choice((1, 64, 256))))
    await writer.drain()
    await asyncio.sleep(chance.random() / 100)
    return "gone before the answer"


async def leaves_in_the_body(reader, writer, chance, file):
    request = infer(chance, 64)
    writer.write(request[:chance.randrange(len(request))])
    await writer.drain()
    return "gone in the request"


async def says_nothing(reader, writer, chance, file):
    await asyncio.sleep(chance.random())
    return "gone without a word"


async def listens(reader, writer, chance, file):
    writer.write(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    await asyncio.sleep(chance.random())
    return "gone while listening"


async def stops_reading(reader, writer, chance, file):
    writer.write(f"GET /v1/models/{MODEL}/file HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() * 20)
    await reader.readexactly(1 << 10)
    await asyncio.sleep(chance.random())
    return "gone while reading"


DEEDS = (classifies, infers, infers, leaves_before_the_answer, leaves_in_the_body, says_nothing, listens, stops_reading)

if __name__ == "__main__":
    main()
