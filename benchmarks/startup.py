"""How long the commands take to answer.

Compares: the time of whole processes, from fork to exit, of the installed commands, with Python's own start on this machine
    beside them.
On: this machine, files in the page cache (each command runs once before it is timed), the user's folders replaced by empty
    ones; the list of devices holds forty, none of which is asked.
Fair because: a user waits for the process, not for a function; the median of many with its 95 % interval is judged, and the
    commands take turns. What is imported is looked up in the module table of a process that ran the command.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.processes import Others
from benchmarks.table import Benchmark, CannotMeasure, Goal, Row, interval_of, judged, progress

_GOAL = Goal(below=0.5)
_DEVICES = 40
_CHECKOUT = Path(__file__).parents[1]
#: Packages that take long to import and that these commands have no use for.
_HEAVY = ("torch", "onnx", "onnxruntime", "scipy")
# Runs a command's function in a process whose module table can be looked at when it is done.
_SPY = """
import json, sys
package, *sys.argv = sys.argv[1:]
try:
    from importlib import import_module
    import_module(package).main()
except SystemExit:
    pass
print("\\n" + json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""


def measure(quick: bool) -> list[Row]:
    """Time the commands and look at what they import."""
    times = 6 if quick else 30
    with tempfile.TemporaryDirectory(prefix="boardfit-bench-") as name:
        environment = _environment(Path(name))
        host, agent = _command("host"), _command("device-agent")
        timed: dict[str, tuple[list[str], Goal | None]] = {
            "host --help": ([*host, "--help"], _GOAL),
            "host devices list": ([*host, "devices", "list"], _GOAL),
            "device-agent --version": ([*agent, "--version"], _GOAL),
            "python -c pass": ([sys.executable, "-c", "pass"], None),
        }
        for number in range(_DEVICES):
            _register(Path(name), number)
        for command, _ in timed.values():
            _time(command, environment)
        found: dict[str, list[float]] = {title: [] for title in timed}
        others = Others()
        for number in range(times):
            progress(f"round {number + 1} of {times}")
            for title, (command, _) in timed.items():
                found[title].append(_time(command, environment))
        noise = others.doubt()
        rows = []
        for title, (_, goal) in timed.items():
            middle, interval = interval_of(found[title])
            if goal is None:
                rows.append(Row(metric=title, value=middle, unit="s", interval=interval))
            else:
                doubt = None if goal.holds(middle) else noise
                rows.append(judged(title, middle, "s", goal, interval=interval, doubt=doubt))
        for title, module, arguments in (
            ("host --help", "host.cli", ("--help",)),
            ("host devices list", "host.cli", ("devices", "list")),
            ("device-agent --version", "device_agent.cli", ("--version",)),
        ):
            heavy = _imported(module, arguments, environment)
            row = judged(f"{title}: {', '.join(_HEAVY)} imported", len(heavy), "packages", Goal(low=0, high=0))
            rows.append(replace(row, reason=f"imported: {', '.join(heavy)}") if heavy else row)
        return rows


def _command(name: str) -> list[str]:
    """Return the installed command; the module, where this Python's environment has no such script."""
    script = Path(sysconfig.get_path("scripts")) / name
    return [str(script)] if script.exists() else [sys.executable, "-m", name.replace("-", "_")]


def _environment(folder: Path) -> dict[str, str]:
    own = {f"XDG_{kind}_HOME": str(folder / kind.lower()) for kind in ("CONFIG", "DATA", "CACHE", "STATE")}
    return {**os.environ, **own, "HOME": str(folder)}


def _register(folder: Path, number: int) -> None:
    from host.fleet.inventory import Inventory, RegisteredDevice

    inventory = Inventory(folder / "config" / "boardfit" / "devices.json")
    # TEST-NET-1 of RFC 5737: addresses at which nobody answers.
    inventory.add(RegisteredDevice(name=f"board-{number:02}", address=f"192.0.2.{number + 1}:50051", profile="pi4"))


def _time(command: Sequence[str], environment: dict[str, str]) -> float:
    """Return the seconds that a command takes; CannotMeasure if it fails."""
    start = time.perf_counter()
    done = subprocess.run(command, env=environment, cwd=_CHECKOUT, capture_output=True, text=True)
    elapsed = time.perf_counter() - start
    if done.returncode:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise CannotMeasure(f"{' '.join(command)} ended with status {done.returncode}: {last}")
    return elapsed


def _imported(module: str, arguments: Sequence[str], environment: dict[str, str]) -> list[str]:
    command = [sys.executable, "-c", _SPY, module, "command", *arguments]
    done = subprocess.run(command, env=environment, cwd=_CHECKOUT, capture_output=True, text=True, check=True)
    modules = json.loads(done.stdout.splitlines()[-1])
    return [name for name in _HEAVY if name in modules]


BENCHMARK = Benchmark(name="startup", about=__doc__ or "", measure=measure)

if __name__ == "__main__":
    sys.exit(BENCHMARK.main())
