"""What an event about a block takes from the log of the node that has connected it to those who listen. Started by scripts/bench-api."""

import argparse
import asyncio
import json
import re
import statistics
import sys
import time
import urllib.parse
from datetime import datetime


def main():
    options = parse_options()
    rows = []
    for listeners in sorted({1, options.listeners}):
        print(f"{listeners} listeners, {options.seconds} s", file=sys.stderr)
        read = asyncio.run(listen_all(options, listeners))
        rows.append(summarise(listeners, connected(options), read))
    print(f"{'listeners':>9} {'blocks':>7} {'events':>7} {'p50 ms':>8} {'p99 ms':>8} {'most ms':>8} {'first to last ms':>17}")
    for row in rows:
        print(f"{row['listeners']:9} {row['blocks']:7} {row['events']:7} {row['p50_ms']:8.2f} {row['p99_ms']:8.2f} {row['most_ms']:8.2f} "
              f"{row['spread_p50_ms']:17.2f}")
    if options.json:
        print(json.dumps({"cases": rows}))


def parse_options():
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--node", required=True)
    parser.add_argument("--log", required=True)
    parser.add_argument("--listeners", type=int, default=200)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


async def listen_all(options, count):
    """When each listener has read which block."""
    read = [{} for _ in range(count)]
    tasks = [asyncio.create_task(listen(options, blocks)) for blocks in read]
    await asyncio.wait(tasks, timeout=options.seconds, return_when=asyncio.FIRST_COMPLETED)
    ended = [task for task in tasks if task.done()]
    for task in tasks:
        task.cancel()
    if ended:
        raise SystemExit(f"a listener ended: {ended[0].exception()}")
    return read


async def listen(options, blocks):
    at = urllib.parse.urlsplit(options.node)
    reader, writer = await asyncio.open_connection(at.hostname, at.port)
    writer.write(f"GET /v1/events HTTP/1.1\r\nHost: {at.netloc}\r\n\r\n".encode())
    status = await reader.readline()
    if b" 200 " not in status:
        raise OSError(f"found {status.decode().strip()}, expected 200")
    kind = b""
    while line := await reader.readline():
        if line.startswith(b"event: "):
            kind = line[7:].strip()
        elif line.startswith(b"data: ") and kind == b"block":
            blocks[json.loads(line[6:])["hash"]] = time.time()
    raise OSError("the node has ended the connection")


def connected(options):
    """When the node has connected which block, by its log."""
    times = {}
    for line in open(options.log):
        if "block connected" in line:
            stamp, _, rest = re.sub("\033\\[[0-9;]*m", "", line).partition(" ")
            found = rest.partition("hash=")[2].split()[0]
            times[found] = datetime.fromisoformat(stamp.replace("Z", "+00:00")).timestamp()
    return times


def summarise(listeners, times, read):
    blocks = set.intersection(*(set(one) for one in read)) & set(times)
    if not blocks:
        raise SystemExit("no block came while all listened")
    took = sorted((one[block] - times[block]) * 1e3 for block in blocks for one in read)
    spreads = [(max(one[block] for one in read) - min(one[block] for one in read)) * 1e3 for block in blocks]
    at = lambda share: took[min(len(took) - 1, int(share * len(took)))]
    return {"listeners": listeners, "blocks": len(blocks), "events": len(took), "p50_ms": at(0.5), "p99_ms": at(0.99), "most_ms": took[-1],
            "spread_p50_ms": statistics.median(spreads)}


if __name__ == "__main__":
    main()
