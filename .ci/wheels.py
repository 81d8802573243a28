#!/usr/bin/env python3
"""Which wheels the boards' systems can install: the facts that README's table shows, asked of the package index.

    wheels.py check WHEEL       ask for every row and compare README.md; WHEEL is Boardfit's own, for whole environments
    wheels.py options SYSTEM    print pip's options that make it choose wheels for a system of the table

Nothing is installed. pip chooses among wheels for another system if it is told the tags of that system, in their order. It
evaluates environment markers for the Python it runs on, though, so what a marker would add for an older Python is asked by name.
Exit code 0 if all is as the table says, 1 if not.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"
#: manylinux wheels name the oldest glibc that they run on; 2.17 is manylinux2014's, the oldest that is still built for.
_OLDEST_GLIBC = 17
_TRIES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """What a board runs. `python` is the system's own, and `glibc` the minor version of its C library (2.x).

    `cell` is the last column of README's table. `environments` are extras of Boardfit that must resolve with all they depend on
    for `boardfit_python`, and `refused` those that must not. `wheels` and `missing` are single requirements, for `python`.
    """

    name: str
    python: str
    machine: str = "aarch64"
    glibc: int
    cell: str
    boardfit_python: str | None = None
    environments: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    wheels: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


SYSTEMS = (
    System(
        name="JetPack 5 (Ubuntu 20.04)", python="3.8", glibc=31,
        cell="with Python 3.10 or newer installed beside it: onnxruntime, LiteRT (tflite-runtime needs glibc 2.34)",
        boardfit_python="3.10", environments=("onnxruntime", "litert"), refused=("tflite-runtime",),
        wheels=("onnxruntime==1.19.2", "tflite-runtime==2.13.0", "grpcio==1.70.0", "protobuf==5.29.6", "numpy==1.24.4", "psutil"),
        missing=("onnxruntime>=1.20", "ai-edge-litert", "tflite-runtime>=2.14", "grpcio>=1.71", "protobuf>=6"),
    ),
    System(
        name="JetPack 6 (Ubuntu 22.04)", python="3.10", glibc=35,
        cell="onnxruntime up to 1.23, LiteRT, tflite-runtime",
        boardfit_python="3.10", environments=("onnxruntime", "litert", "tflite-runtime"),
        wheels=("tomli>=2", "onnxruntime==1.23.2"), missing=("onnxruntime>=1.24",),
    ),
    System(
        name="Raspberry Pi OS 12", python="3.11", glibc=36,
        cell="onnxruntime, LiteRT, tflite-runtime",
        boardfit_python="3.11", environments=("onnxruntime", "litert", "tflite-runtime"),
    ),
    System(
        name="Raspberry Pi OS 13", python="3.13", glibc=41,
        cell="onnxruntime, LiteRT",
        boardfit_python="3.13", environments=("onnxruntime", "litert"), refused=("tflite-runtime",),
        missing=("tflite-runtime",),
    ),
    System(
        name="32-bit Raspberry Pi OS 12", python="3.11", machine="armv7l", glibc=36,
        cell="tflite-runtime only; numpy and psutil from `apt`",
        boardfit_python="3.11", refused=("onnxruntime", "litert"),
        wheels=("grpcio>=1.71.2", "protobuf>=5.29.1,<8", "tflite-runtime>=2.14"),
        missing=("numpy", "psutil", "onnxruntime", "ai-edge-litert"),
    ),
)  # fmt: skip


def pip_options(machine: str, python: str, glibc: int) -> list[str]:
    """Return the options by which pip chooses wheels for a system, the best ones first."""
    tags = [f"manylinux_2_{minor}_{machine}" for minor in range(glibc, _OLDEST_GLIBC - 1, -1)]
    tags += [f"manylinux2014_{machine}", f"linux_{machine}"]
    options = ["--only-binary=:all:", "--implementation", "cp", "--python-version", python]
    return options + [word for tag in tags for word in ("--platform", tag)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Whether `requirement` resolves on a system, with (`whole`) or without its dependencies."""

    system: System
    python: str
    requirement: str
    expected: bool
    whole: bool

    def ask(self, environment: dict[str, str]) -> tuple[bool, str]:
        """Return whether it resolves, and the versions found or pip's words. Ends the program if the index does not answer."""
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-",
                   "--target", "nowhere", *pip_options(self.system.machine, self.python, self.system.glibc)]  # fmt: skip
        command += [] if self.whole else ["--no-deps"]
        for _ in range(_TRIES):
            done = subprocess.run([*command, self.requirement], capture_output=True, text=True, env=environment)
            if done.returncode == 0:
                found = [entry["metadata"] for entry in json.loads(done.stdout)["install"]]
                return True, ", ".join(sorted(f"{one['name']} {one['version']}" for one in found))
            # An index that cannot be reached looks to pip like one that has nothing, but for a warning.
            unreached = any(words in done.stderr for words in ("Retrying (", "Could not fetch URL", "HTTP error"))
            if not unreached and any(
                words in done.stderr for words in ("No matching distribution", "ResolutionImpossible")
            ):
                return False, done.stderr.strip().splitlines()[-1].removeprefix("ERROR: ")
        raise SystemExit(f"wheels: pip could not ask the index for {self.requirement}:\n{done.stderr.strip()[-1000:]}")


def questions(system: System, wheel: Path) -> list[Question]:
    """Return all that is asked about one system."""
    found = [
        Question(system=system, python=system.python, requirement=requirement, expected=expected, whole=False)
        for requirements, expected in ((system.wheels, True), (system.missing, False))
        for requirement in requirements
    ]
    for extras, expected in ((system.environments, True), (system.refused, False)):
        for extra in extras:
            requirement = f"boardfit[{extra}] @ {wheel.resolve().as_uri()}"
            python = system.boardfit_python or system.python
            found.append(Question(system=system, python=python, requirement=requirement, expected=expected, whole=True))
    return found


def pip_environment() -> dict[str, str]:
    """Return an environment in which pip asks the user's index, and no folder of wheels or constraint that lies about."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    settings = dict(re.findall(r"^(?:global|install|:env:)\.([\w-]+)='(.*)'$", listed, re.MULTILINE))
    kept = {key: value for key, value in settings.items() if key in {"index-url", "cert", "proxy", "trusted-host"}}
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")}
    environment |= {f"PIP_{key.upper().replace('-', '_')}": value for key, value in kept.items()}
    return environment | {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_DEFAULT_TIMEOUT": "60",
    }


def readme_faults() -> list[str]:
    """Return what README's table says otherwise."""
    lines = [line for line in README.read_text().splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    wanted = [[system.name, system.python, system.cell] for system in SYSTEMS]
    return [f"README.md lacks the row | {' | '.join(row)} |" for row in wanted if row not in rows]


def check(wheel: Path) -> int:
    """Ask everything, print what was found, and return the exit code."""
    environment = pip_environment()
    asked = [question for system in SYSTEMS for question in questions(system, wheel)]
    with ThreadPoolExecutor(4) as pool:
        try:
            answers = list(pool.map(lambda question: question.ask(environment), asked))
        except SystemExit:
            pool.shutdown(cancel_futures=True)
            raise
    faults = readme_faults()
    for question, (answer, words) in zip(asked, answers, strict=True):
        what = question.requirement.partition(" @ ")[0]
        line = f"{question.system.name}, Python {question.python}: {what}: {'yes' if answer else 'no'} ({words})"
        sys.stdout.write(f"{line}\n")
        if answer is not question.expected:
            faults.append(f"{line}; the table in .ci/wheels.py expects {'yes' if question.expected else 'no'}")
    for fault in faults:
        sys.stderr.write(f"wheels: {fault}\n")
    return 1 if faults else 0


def main(arguments: list[str]) -> int:
    """Run one of the two commands."""
    if len(arguments) == 2 and arguments[0] == "check":
        return check(Path(arguments[1]))
    if len(arguments) == 2 and arguments[0] == "options":
        for system in SYSTEMS:
            if system.name == arguments[1]:
                sys.stdout.write(" ".join(pip_options(system.machine, system.python, system.glibc)) + "\n")
                return 0
    sys.stderr.write(__doc__ or "")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
