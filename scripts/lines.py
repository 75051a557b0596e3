#!/usr/bin/env python3
"""Joins network namespaces by lines of the internet: what one sends reaches another after a while, and no faster than its line.

    lines.py MILLIS MBIT NAMESPACE=ADDRESS...

Each namespace gets an interface `line` with its address and a route to all others. A packet arrives MILLIS after it was sent; a line
brings at most MBIT megabits a second (0: any), beyond which packets queue for at most 0.4 s and are then lost. What a namespace sends
is for its own `tc` to limit. Prints `ready` and runs until it is killed; the interfaces go with it. For root on Linux; used by
scripts/bench-internet, since netem is not in every kernel.
"""

import ctypes
import fcntl
import os
import select
import socket
import struct
import subprocess
import sys
import time
from collections import deque

CLONE_NEWNET = 0x40000000
TUNSETIFF = 0x400454CA
IFF_TUN_NO_PI = 0x0001 | 0x1000
MTU = 1500
QUEUE_SECONDS = 0.4
PREFIX = "/24"


def open_line(namespace, address, own_namespace):
    """An interface in a namespace: the file at which its packets are read and written."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/run/netns/{namespace}") as there:
        if libc.setns(there.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"cannot enter namespace {namespace}")
    try:
        line = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(line, TUNSETIFF, struct.pack("16sH22x", b"line", IFF_TUN_NO_PI))
        for command in (f"addr add {address}{PREFIX} dev line", f"link set dev line mtu {MTU} up"):
            subprocess.run(["ip", *command.split()], check=True)
    finally:
        if libc.setns(own_namespace.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "cannot come back from a namespace")
    return line


def main():
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    delay, bytes_per_second = float(sys.argv[1]) / 1e3, float(sys.argv[2]) * 1e6 / 8
    lines, queues = {}, {}
    with open("/proc/self/ns/net") as own_namespace:
        for pair in sys.argv[3:]:
            namespace, address = pair.split("=")
            lines[socket.inet_aton(address)] = open_line(namespace, address, own_namespace)
    # Of each line: packets with the time at which they arrive, and when the last of them will have come through.
    queues = {address: deque() for address in lines}
    free_at = dict.fromkeys(lines, 0.0)
    lost = 0
    print("ready", flush=True)
    while True:
        now = time.monotonic()
        due = None
        for address, queue in queues.items():
            while queue and queue[0][0] <= now:
                try:
                    os.write(lines[address], queue.popleft()[1])
                except OSError:
                    lost += 1  # the interface is going down
            if queue and (due is None or queue[0][0] < due):
                due = queue[0][0]
        wait = None if due is None else max(0.0, due - time.monotonic())
        readable, _, _ = select.select(list(lines.values()), [], [], wait)
        now = time.monotonic()
        for line in readable:
            while True:
                try:
                    packet = os.read(line, 2 * MTU)
                except BlockingIOError:
                    break
                to = packet[16:20]
                # Nothing but IPv4 between the namespaces goes on.
                if packet[0] >> 4 != 4 or to not in lines:
                    continue
                at = now + delay
                if bytes_per_second:
                    at = max(at, free_at[to])
                    if at - now - delay > QUEUE_SECONDS:
                        lost += 1
                        continue
                    free_at[to] = at + len(packet) / bytes_per_second
                queues[to].append((at, packet))


if __name__ == "__main__":
    main()
