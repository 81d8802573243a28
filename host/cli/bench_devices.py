"""`host bench MODEL --device SELECTOR` where the selector means several devices: one after the other, and a line each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from device_agent.contract.errors import BoardfitError, DeviceUnreachable, InvalidRequest
from host.cli import render
from host.cli.errors import ExitCode

SCHEMA = 1


def bench_devices(
    models: Sequence[str], devices: Sequence[str], measure: Callable[[str], dict[str, Any]], *, as_json: bool
) -> int:
    """Measure one model on each device and print a line for each; return the exit code. InvalidRequest for several models.

    A device that fails does not keep the others from being measured.
    """
    if len(models) > 1:
        raise InvalidRequest(
            f"{len(models)} models and {len(devices)} devices: name one of either, or use `host sweep` for artifacts x devices"
        )
    found: dict[str, dict[str, Any] | BoardfitError] = {}
    for name in devices:
        try:
            found[name] = measure(name)
        except BoardfitError as error:
            found[name] = error
    if as_json:
        render.print_json({"schema": SCHEMA, "devices": [_entry(name, each) for name, each in found.items()]})
    else:
        table = render.table("device", "p50", "p90", "runs", "runtime", "verdict", right=("p50", "p90", "runs"))
        for name, each in found.items():
            render.add_row(table, name, *_cells(each))
        render.console().print(table)
    failed = [each for each in found.values() if isinstance(each, BoardfitError)]
    if not failed:
        return ExitCode.DONE
    gone = len(failed) == len(found) and all(isinstance(each, DeviceUnreachable) for each in failed)
    return ExitCode.NO_DEVICE if gone else ExitCode.FAILED


def _cells(each: dict[str, Any] | BoardfitError) -> tuple[str, ...]:
    if isinstance(each, BoardfitError):
        return (render.DASH, render.DASH, render.DASH, render.DASH, f"failed: {each}")
    latency, runtime = each["latency_ns"], each["runtime"]
    p50, p90 = (render.latency_text(latency[key], like_ns=latency["p50"]) for key in ("p50", "p90"))
    verdict = ", ".join(one["code"] for one in each["verdict"])
    return (p50, p90, str(each["runs"]), f"{runtime['name']} {runtime['version']}", verdict)


def _entry(name: str, each: dict[str, Any] | BoardfitError) -> dict[str, Any]:
    failed = isinstance(each, BoardfitError)
    return {"name": name, "error": str(each) if failed else None, "bench": None if failed else each}
