"""A slow, lossy link with a cable to pull, in user space: this network namespace at one end, a command in its own at the other.

`python -m benchmarks.cable --rate-mbit 20 --delay-ms 40 --loss 0.01 COMMAND...` makes a network interface here (10.77.0.1),
enters a network namespace of its own with another one (10.77.0.2), starts the command there, and carries IP packets between the
two: each direction has its rate with a queue in front of it, its delay one way, and its share of packets lost at random. Lines
on the standard input pull the cable (`out`: every packet is lost, those under way too), put it back (`in`), or ask for the
counters (`count`); each is answered by a line of JSON. The end of the input ends the command. What it prints comes out here.

Linux; needs /dev/net/tun, the program ip, and a namespace that the caller may administer, such as that of `unshare -rn`. It
stands in for tc-netem, whose module is missing on many machines. Standard library only.
"""

from __future__ import annotations

import argparse
import ctypes
import fcntl
import heapq
import json
import os
import random
import selectors
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

HERE, THERE = "10.77.0.1", "10.77.0.2"
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
_CLONE_NEWNET = 0x40000000
_TCP = 6
#: What a cheap router holds before it drops packets.
_QUEUE_S = 0.2
_MTU = 1500


@dataclass(slots=True)
class Counters:
    """Packets of one direction, and bytes of TCP payload: `sent` into the link, `arrived` at its end."""

    sent: int = 0
    arrived: int = 0
    lost: int = 0
    dropped_by_queue: int = 0
    dropped_by_cable: int = 0
    payload_sent: int = 0
    payload_arrived: int = 0


@dataclass(slots=True)
class _Direction:
    """From one interface to the other. `free_at` is when the link has sent what it holds."""

    source: int
    target: int
    free_at: float = 0.0
    counters: Counters = field(default_factory=Counters)


class Link:
    """Carries packets between two interfaces until told otherwise. Times are monotonic seconds."""

    def __init__(self, here: int, there: int, *, rate_bits: float, delay_s: float, loss: float, seed: int = 1) -> None:
        self._rate, self._delay_s, self._loss = rate_bits / 8, delay_s, loss
        self._random = random.Random(seed)
        self.to = _Direction(here, there)
        self.back = _Direction(there, here)
        self.out = False
        self._under_way: list[tuple[float, int, _Direction, bytes]] = []
        self._number = 0

    def next_s(self, now: float) -> float | None:
        """Return the seconds until a packet arrives, None while none is under way."""
        return max(0.0, self._under_way[0][0] - now) if self._under_way else None

    def take(self, direction: _Direction) -> None:
        """Take in what an interface wants to send."""
        counters = direction.counters
        for _ in range(64):
            try:
                packet = os.read(direction.source, 2048)
            except BlockingIOError:
                return
            now = time.monotonic()
            counters.sent += 1
            counters.payload_sent += payload(packet)
            begin = max(now, direction.free_at)
            if self.out:
                counters.dropped_by_cable += 1
            elif self._random.random() < self._loss:
                counters.lost += 1
            elif begin - now > _QUEUE_S:
                counters.dropped_by_queue += 1
            else:
                direction.free_at = begin + len(packet) / self._rate
                self._number += 1
                heapq.heappush(self._under_way, (direction.free_at + self._delay_s, self._number, direction, packet))

    def deliver(self, now: float) -> None:
        """Hand over the packets whose time has come."""
        while self._under_way and self._under_way[0][0] <= now:
            _, _, direction, packet = heapq.heappop(self._under_way)
            if self.out:
                direction.counters.dropped_by_cable += 1
                continue
            try:
                os.write(direction.target, packet)
            except OSError:  # the other end has no room
                direction.counters.dropped_by_queue += 1
                continue
            direction.counters.arrived += 1
            direction.counters.payload_arrived += payload(packet)


def payload(packet: bytes) -> int:
    """Return the bytes that an IPv4 packet carries for a program by TCP; 0 for any other."""
    if len(packet) < 20 or packet[0] >> 4 != 4 or packet[9] != _TCP:
        return 0
    head = (packet[0] & 15) * 4
    return max(0, int.from_bytes(packet[2:4], "big") - head - (packet[head + 12] >> 4) * 4)


def _interface(address: str, peer: str) -> int:
    """Make a network interface in the present namespace; return its file."""
    file = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(file, _TUNSETIFF, struct.pack("16sH", b"cable0", _IFF_TUN | _IFF_NO_PI))
    for command in (
        ["link", "set", "lo", "up"],
        ["addr", "add", address, "peer", peer, "dev", "cable0"],
        ["link", "set", "cable0", "up", "mtu", str(_MTU)],
    ):
        subprocess.run(["ip", *command], check=True, stdout=subprocess.DEVNULL)
    return file


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command behind the link until the standard input ends; its exit code, or 0 where it had to be ended."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cable", description=__doc__)
    parser.add_argument("--rate-mbit", type=float, required=True)
    parser.add_argument("--delay-ms", type=float, required=True)
    parser.add_argument("--loss", type=float, required=True)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args(arguments)
    here = _interface(HERE, THERE)
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "no network namespace of our own")
    there = _interface(THERE, HERE)
    link = Link(here, there, rate_bits=options.rate_mbit * 1e6, delay_s=options.delay_ms / 1000, loss=options.loss)
    process = subprocess.Popen(options.command, stdin=subprocess.DEVNULL)
    try:
        _carry(link)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait()
    return 0


def _carry(link: Link) -> None:
    selector = selectors.DefaultSelector()
    for direction in (link.to, link.back):
        selector.register(direction.source, selectors.EVENT_READ, direction)
    selector.register(sys.stdin, selectors.EVENT_READ, None)
    while True:
        for key, _ in selector.select(link.next_s(time.monotonic())):
            if key.data is not None:
                link.take(key.data)
                continue
            word = sys.stdin.readline().strip()
            if not word:
                return
            if word != "count":
                link.out = word == "out"
            counters = {"to": asdict(link.to.counters), "back": asdict(link.back.counters)}
            sys.stdout.write(json.dumps(counters) + "\n")
            sys.stdout.flush()
        link.deliver(time.monotonic())


if __name__ == "__main__":
    sys.exit(main())
