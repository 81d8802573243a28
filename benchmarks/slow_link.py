"""What a push costs over a slow, lossy link whose cable is pulled, and what it sends twice.

Compares: AgentClient.push of a 20 MB file over 20 Mbit/s, 40 ms each way, 1 % of packets lost in each direction, with the cable
    pulled three times for ten seconds, with the same push over the same link when nobody pulls.
On: this machine; a real device-agent in a network namespace of its own. The link is benchmarks.cable, a program that carries IP
    packets between two interfaces (it stands in for a cable and tc-netem; TCP on both sides is the kernel's). While the cable is
    out every packet is lost and nobody is told, as with a pulled cable.
Fair because: bytes are counted twice. "Given out again" is what the host handed to its network stack beyond the file's size.
    "On the cable" is the TCP payload that was put into the link beyond the file's size: what was lost at random and repeated by
    TCP is in it, with and without pulling, as are HTTP/2 and all other calls. The file is random, so nothing can be compressed.
"""

from __future__ import annotations

import hashlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.cable import THERE
from benchmarks.table import Benchmark, CannotMeasure, Goal, Row, judged, progress

_MB = 1_000_000
_RATE_MBIT, _DELAY_MS, _LOSS = 20.0, 40.0, 0.01
_PORT = 50051
_MOST_S = 900.0
_START_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Push:
    """One push: bytes given out by the host, seconds, bytes of TCP payload put into the link, and whether all arrived intact."""

    size: int
    given_out: int
    seconds: float
    payload: int
    intact: bool
    pulls: int


def measure(quick: bool) -> list[Row]:
    """Push with and without pulling, in a network namespace of our own."""
    plan = {"size": 4 * _MB, "pulls": 1, "out_s": 7.0} if quick else {"size": 20 * _MB, "pulls": 3, "out_s": 10.0}
    rows: list[Row] = []
    for pulls in (0, plan["pulls"]):
        push = _in_namespace({**plan, "pulls": pulls})
        rows += _rows(push)
    return rows


def _rows(push: _Push) -> list[Row]:
    what = f"cable pulled {push.pulls} times" if push.pulls else "nobody pulls"
    megabytes = push.size / _MB
    again = 100 * (push.given_out - push.size) / push.size
    on_cable = 100 * (push.payload - push.size) / push.size
    intact = judged(f"{what}: {megabytes:g} MB arrived intact", float(push.intact), "of 1", Goal(low=1, high=1))
    seconds = Row(metric=f"{what}: time of the push", value=push.seconds, unit="s")
    if not push.pulls:
        plain = Row(metric=f"{what}: on the cable beyond the file", value=on_cable, unit="%")
        return [intact, seconds, plain]
    goal = Goal(high=15)
    return [
        intact,
        seconds,
        judged(f"{what}: given out again", again, "%", goal),
        judged(f"{what}: on the cable beyond the file", on_cable, "%", goal),
    ]


def _in_namespace(plan: dict[str, Any]) -> _Push:
    """Run `_inside` in a network namespace of its own, as root or, where the kernel lets users, as anybody."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path)),
        "GRPC_VERBOSITY": "NONE",
    }
    flags = ["--net"] if os.geteuid() == 0 else ["--map-root-user", "--net"]
    command = ["unshare", *flags, sys.executable, "-m", "benchmarks.slow_link", "--inside", json.dumps(plan)]
    try:
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, timeout=_MOST_S + 60)
    except FileNotFoundError:
        raise CannotMeasure("it needs the program unshare, of util-linux") from None
    if done.returncode or not done.stdout.startswith("{"):
        raise CannotMeasure(
            "it needs a network namespace of its own, with /dev/net/tun and the program ip: run it as root, or where users may "
            f"make namespaces (unshare -rn true); `{' '.join(command[:3])} ...` ended with status {done.returncode}"
        )
    return _Push(**json.loads(done.stdout))


class _Cable:
    """The link with an agent behind it; a context."""

    def __init__(self, store: Path) -> None:
        agent = [
            sys.executable,
            "-m",
            "device_agent",
            "serve",
            "--insecure",
            "--listen",
            f"{THERE}:{_PORT}",
            "--store",
            str(store),
        ]
        link = ["--rate-mbit", str(_RATE_MBIT), "--delay-ms", str(_DELAY_MS), "--loss", str(_LOSS)]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.cable", *link, *agent],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()
        if not self._line().startswith("listening on"):
            raise CannotMeasure("the agent behind the link did not start")

    def __enter__(self) -> _Cable:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def say(self, word: str) -> dict[str, Any]:
        """Pull the cable (`out`), put it back (`in`) or just `count`; returns the counters."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{word}\n")
        self._process.stdin.flush()
        counters: dict[str, Any] = json.loads(self._line())
        return counters

    def _line(self) -> str:
        try:
            return self._lines.get(timeout=_START_S)
        except queue.Empty:
            return ""

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put("")


class _Puller:
    """Pulls the cable when parts of the file have been sent, for so many seconds each."""

    def __init__(self, cable: _Cable, size: int, pulls: int, out_s: float) -> None:
        self._cable, self._out_s = cable, out_s
        self._at = [size * (number + 1) // (pulls + 1) for number in range(pulls)]
        self._thread = threading.Thread()
        self.pulled = 0

    def on_progress(self, position: int, _size: int) -> None:
        """Called by the push; pulls in a thread of its own, one at a time."""
        if self._at and position >= self._at[0] and not self._thread.is_alive():
            del self._at[0]
            self.pulled += 1
            self._thread = threading.Thread(target=self._pull, daemon=True)
            self._thread.start()

    def _pull(self) -> None:
        progress(f"the cable is out for {self._out_s:g} s")
        self._cable.say("out")
        time.sleep(self._out_s)
        self._cable.say("in")


def _inside(plan: dict[str, Any]) -> _Push:
    from host.fleet.client import AgentClient

    with tempfile.TemporaryDirectory(prefix="boardfit-bench-") as name:
        path = Path(name) / "random.onnx"
        path.write_bytes(os.urandom(plan["size"]))
        store = Path(name) / "store"
        with _Cable(store) as cable, AgentClient(f"{THERE}:{_PORT}") as client:
            client.describe()
            puller = _Puller(cable, plan["size"], plan["pulls"], plan["out_s"])
            before = cable.say("count")["to"]["payload_sent"]
            report = client.push(path, on_progress=puller.on_progress)
            after = cable.say("count")["to"]["payload_sent"]
        stored = store / "artifacts" / report.artifact.sha256
        intact = hashlib.sha256(stored.read_bytes()).hexdigest() == report.artifact.sha256
    return _Push(
        size=plan["size"],
        given_out=report.bytes_sent,
        seconds=report.seconds,
        payload=after - before,
        intact=intact,
        pulls=puller.pulled,
    )


BENCHMARK = Benchmark(name="slow_link", about=__doc__ or "", measure=measure)

if __name__ == "__main__":
    if sys.argv[1:2] == ["--inside"]:
        sys.stdout.write(json.dumps(asdict(_inside(json.loads(sys.argv[2])))))
    else:
        sys.exit(BENCHMARK.main())
