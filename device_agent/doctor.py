"""`device-agent doctor`: what is missing on this board, and how to mend it. Works without any runtime, and on 32-bit systems."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from device_agent import __version__, doctor_board, doctor_system
from device_agent.contract.device import RuntimeInfo
from device_agent.contract.document import SCHEMA
from device_agent.contract.errors import BoardfitError
from device_agent.finding import Finding, Outcome, fail
from device_agent.recorded_board import LIVE, describe, expected_kinds, opened
from device_agent.sensors import survey
from device_agent.terminal import width, wrapped
from device_agent.wheels import this_platform

DEFAULT_PORT = 50051


def examine_files(root: Path, profile: str | None = None) -> tuple[Finding, ...]:
    """Return what the files of a board tell. InvalidRequest if no device profile has this name."""
    board = describe(root, profile)
    found = survey(root, expected=expected_kinds(board))
    try:
        return tuple(doctor_board.examine(root, board, found))
    finally:
        for sensor in found.sensors:
            sensor.close()


def examine_system(store: Path) -> tuple[Finding, ...]:
    """Return what this Python, this user and this disk tell; takes as long as the import of every installed runtime."""
    here = this_platform()
    findings = list(doctor_system.python_findings(here))
    runtimes, broken = _probed()
    findings += [broken] if broken is not None else []
    findings += doctor_system.runtime_findings(here, runtimes)
    findings.append(doctor_system.clock_finding(time.time(), doctor_system.kernel_clock_is_synchronised()))
    findings.append(doctor_system.credentials_finding(store, time.time()))
    findings += doctor_system.boot_findings(LIVE)
    findings += doctor_system.disk_findings(store)
    port = doctor_system.port_finding(DEFAULT_PORT)
    findings += [port] if port is not None else []
    return (*findings, doctor_system.pinning_finding())


def _probed() -> tuple[Sequence[RuntimeInfo] | None, Finding | None]:
    from device_agent.worker.launch import probe_runtimes

    try:
        return asyncio.run(probe_runtimes()), None
    except (BoardfitError, OSError) as error:
        return None, fail(
            "worker", f"a measuring process cannot be started: {error}", "see the message; ulimit -a shows limits"
        )


def doctor(*, root: Path | None, profile: str | None, store: Path, as_json: bool) -> bool:
    """Print the findings, of a recorded board if `root` is given; return whether nothing failed."""
    with opened(root or LIVE) as place:
        findings = examine_files(place, profile)
    if root is None:
        findings += examine_system(store)
    _print(json.dumps(document_of(findings), indent=2) if as_json else "\n".join(lines_of(findings, width())))
    return worst(findings) is not Outcome.FAIL


def worst(findings: Sequence[Finding]) -> Outcome:
    """Return the outcome of the whole examination."""
    found = {one.outcome for one in findings}
    return next((each for each in (Outcome.FAIL, Outcome.WARN) if each in found), Outcome.OK)


def document_of(findings: Sequence[Finding]) -> dict[str, Any]:
    """Return the findings for --json."""
    return {
        "schema": SCHEMA,
        "agent_version": __version__,
        "outcome": worst(findings).value,
        "findings": [
            {"check": one.check, "outcome": one.outcome.value, "words": one.words, "mend": one.mend} for one in findings
        ],
    }


def lines_of(findings: Sequence[Finding], columns: int) -> list[str]:
    """Return the findings as text, and their number by outcome."""
    indent = max((len(one.check) for one in findings), default=0) + len("fail") + 4
    lines = []
    for one in findings:
        first = f"{one.outcome.value:<4}  {one.check}"
        lines += wrapped(one.words, columns, first=f"{first:<{indent}}", rest=" " * indent)
        if one.mend is not None:
            lines += wrapped(one.mend, columns, first=f"{'':<{indent}}-> ", rest=" " * (indent + 3))
    counts = {outcome: sum(one.outcome is outcome for one in findings) for outcome in Outcome}
    return [*lines, "", ", ".join(f"{counts[outcome]} {outcome.value}" for outcome in Outcome)]


def _print(text: str) -> None:
    print(text)  # noqa: T201 - a command's result goes to stdout
