"""Plans, results and lists of sweeps as JSON documents and as tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from host.cli import render
from host.sweep.expand import options_text
from host.sweep.job import DeviceProgress, Job, JobState, Sweep
from host.sweep.outcome import Cell

if TYPE_CHECKING:
    from host.sweep.planning import SweepPlan
    from host.sweep.runner import SweepResult

SCHEMA = 1
#: Lines of a table on a terminal; the JSON document has them all.
_ROWS = 60
_STATES = ("done", "failed", "skipped", "waiting", "running")


def plan_document(plan: SweepPlan) -> dict[str, Any]:
    """Return the document of `host sweep --dry-run --json`."""
    found = plan.estimate
    per_device = Counter(job.device for job in plan.jobs)
    return {
        "schema": SCHEMA,
        "name": plan.spec.name,
        "seed": plan.seed,
        "jobs": len(plan.jobs),
        "repeats": plan.spec.repeats,
        "artifacts": [{"name": each.name, "path": str(each.path), "sha256": each.sha256} for each in plan.artifacts],
        "devices": [
            {
                "name": device.name,
                "profile": device.profile,
                "jobs": per_device[device.name],
                "estimated_s": found.devices.get(device.name),
                "unreached": plan.unreached.get(device.name),
            }
            for device in plan.devices
        ],
        "settings": [dict(options) for options in _different(plan)],
        "notes": list(plan.notes),
        "estimate": {
            "wall_s": found.wall_s,
            "longest_s": found.longest_s,
            "device_s": found.total_s,
            "known_jobs": found.known,
            "slowest_device": found.slowest,
        },
    }


def _different(plan: SweepPlan) -> list[Mapping[str, Any]]:
    return list({options_text(job.options): job.options for job in plan.jobs}.values())


def show_plan(plan: SweepPlan) -> None:
    """Print a plan."""
    out = render.console()
    document = plan_document(plan)
    table = render.table("device", "profile", "jobs", "estimated", "", right=("jobs", "estimated"))
    for each in document["devices"][:_ROWS]:
        away = "cannot be used, see below" if each["name"] in plan.unusable else "does not answer now"
        note = "" if each["unreached"] is None else away
        render.add_row(
            table, each["name"], render.text_or_dash(each["profile"]), str(each["jobs"]),
            render.seconds_text(each["estimated_s"]), note,
        )  # fmt: skip
    out.print(table)
    _more(len(document["devices"]) - _ROWS, "devices")
    out.print(f"artifacts: {', '.join(each.name for each in plan.artifacts)}", markup=False, soft_wrap=True)
    for options in document["settings"][:_ROWS]:
        out.print(f"settings: {options_text(options)}", markup=False, soft_wrap=True)
    print_notes(plan)
    out.print(plan_line(plan), markup=False, soft_wrap=True)


def print_notes(plan: SweepPlan, *, stderr: bool = False) -> None:
    """Print what is to be known of a plan."""
    for name in sorted(plan.unusable):
        text = f"note: {name} cannot be used now: {plan.unreached[name]}"
        render.console(stderr=stderr).print(text, markup=False, soft_wrap=True)
    for note in plan.notes:
        render.console(stderr=stderr).print(f"note: {note}", markup=False, soft_wrap=True)


def plan_line(plan: SweepPlan) -> str:
    """Return a plan in one line."""
    found = plan.estimate
    known = f"; {found.known} of {found.jobs} from the history" if found.known else ""
    count = len({job.device for job in plan.jobs})
    return (
        f"{plan.spec.name}: {found.jobs} jobs on {count} {'device' if count == 1 else 'devices'}, "
        f"about {long_text(found.wall_s)} ({long_text(found.longest_s)} at most, if no measurement settles early{known}; "
        f"most to do: {found.slowest}), seed {plan.seed}"
    )


def long_text(seconds: float) -> str:
    """Return a duration that may be hours, such as `3 h 20 min`."""
    if seconds < 3600:
        return render.seconds_text(seconds)
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min"


def result_document(
    result: SweepResult, cells: Sequence[Cell], *, seconds: float | None, unreached: Mapping[str, str]
) -> dict[str, Any]:
    """Return the document of `host sweep --json`. `unreached` are the devices that were never reached, and what they said."""
    return {
        "schema": SCHEMA,
        "sweep": sweep_document(result.sweep),
        "jobs": {
            "total": sum(each.total for each in result.progress),
            **{state: result.count(state) for state in _STATES},
        },
        "retried": result.retried,
        "dropped": result.dropped,
        "stopped": result.stopped,
        "seconds": seconds,
        "devices": [
            {**progress_document(each), "error": unreached.get(each.device) if each.done == 0 else None}
            for each in result.progress
        ],
        "results": [cell_document(cell) for cell in cells],
    }


def sweep_document(sweep: Sweep) -> dict[str, Any]:
    """Return which sweep it is."""
    return {"id": sweep.id, "name": sweep.name, "seed": sweep.seed, "created_at": sweep.created_at.isoformat()}


def progress_document(each: DeviceProgress) -> dict[str, Any]:
    """Return how far a device is."""
    return {
        "device": each.device,
        **{state: getattr(each, state) for state in _STATES},
        "set_aside": each.set_aside,
    }


def cell_document(cell: Cell) -> dict[str, Any]:
    """Return what the repeats of one thing on one device came to."""
    return {
        "artifact": {"name": cell.artifact, "sha256": cell.sha256},
        "device": cell.device,
        "options": dict(cell.options),
        "p50_ns": cell.p50_ns,
        "interval_ns": None if cell.interval_ns is None else list(cell.interval_ns),
        "confidence": cell.confidence,
        "p50s_ns": list(cell.p50s_ns),
        "verdicts": dict(cell.verdicts),
        "done": cell.done,
        "failed": cell.failed,
        "skipped": cell.skipped,
        "waiting": cell.waiting,
        "errors": list(cell.errors),
    }


def show_result(document: Mapping[str, Any]) -> None:
    """Print the result of a sweep from its document."""
    out = render.console()
    cells = [cell for cell in document["results"] if cell["done"] or cell["waiting"]]
    differing = _differing([cell["options"] for cell in document["results"]])
    heads = (
        "artifact",
        "device",
        *(name.replace("_", "-") for name in differing),
        "p50",
        "over repeats",
        "n",
        "verdicts",
    )
    table = render.table(*heads, right=("p50", "n"))
    for cell in cells[:_ROWS]:
        settings = [_value_text(cell["options"].get(name)) for name in differing]
        interval, p50 = cell["interval_ns"], cell["p50_ns"]
        spread = "" if interval is None else " - ".join(render.latency_text(end, like_ns=p50) for end in interval)
        verdicts = ", ".join(f"{code} {count}" if count > 1 else code for code, count in cell["verdicts"].items())
        if cell["waiting"]:
            verdicts += f"{', ' if verdicts else ''}{cell['waiting']} to do"
        row = (
            cell["artifact"]["name"],
            cell["device"],
            *settings,
            render.latency_text(p50),
            spread,
            str(cell["done"]),
            verdicts,
        )
        render.add_row(table, *row)
    if cells:
        out.print(table)
    _more(len(cells) - _ROWS, "rows; --json has them all")
    for reason, places in _reasons(document["results"]).items():
        some = f"{', '.join(places[:4])}{f' and {len(places) - 4} more' if len(places) > 4 else ''}"
        out.print(f"failed or skipped: {some}: {reason}", markup=False, soft_wrap=True)
    for device in document["devices"]:
        if device["waiting"] and (device["error"] or device["set_aside"]):
            why, count = device["error"] or device["set_aside"], device["waiting"]
            out.print(
                f"{device['device']}: {'1 job waits' if count == 1 else f'{count} jobs wait'}: {why}",
                markup=False,
                soft_wrap=True,
            )
    jobs = document["jobs"]
    took = "" if document["seconds"] is None else f" in {long_text(document['seconds'])}"
    parts = [f"{jobs[state]} {state}" for state in _STATES if jobs[state]]
    extra = [f"{document[key]} {key}" for key in ("retried", "dropped") if document[key]]
    sweep = document["sweep"]
    out.print(
        f"sweep {sweep['name']} #{sweep['id']}, seed {sweep['seed']}: {', '.join([*parts, *extra])} of {jobs['total']}{took}",
        markup=False, soft_wrap=True,
    )  # fmt: skip
    if jobs["waiting"]:
        out.print(f"go on with: host sweep --resume '#{sweep['id']}'", markup=False)


def _reasons(cells: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """Return errors with the places where they were met."""
    found: dict[str, list[str]] = {}
    for cell in cells:
        for error in cell["errors"]:
            place = f"{cell['artifact']['name']} on {cell['device']}"
            if place not in found.setdefault(error, []):
                found[error].append(place)
    return found


def _differing(options: Sequence[Mapping[str, Any]]) -> list[str]:
    names = list(dict.fromkeys(name for each in options for name in each))
    return [name for name in names if len({str(each.get(name)) for each in options}) > 1]


def _value_text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return " ".join("=".join(each) if isinstance(each, list) else str(each) for each in value)
    return f"{value:g}" if isinstance(value, float) else render.text_or_dash(value)


def list_document(sweeps: Sequence[tuple[Sweep, Sequence[DeviceProgress]]]) -> dict[str, Any]:
    """Return the document of `host sweep --list --json`."""
    return {
        "schema": SCHEMA,
        "sweeps": [
            {
                **sweep_document(sweep),
                "devices": len(progress),
                "jobs": {
                    "total": sum(each.total for each in progress),
                    **{state: sum(getattr(each, state) for each in progress) for state in _STATES},
                },
            }
            for sweep, progress in sweeps
        ],
    }


def show_list(document: Mapping[str, Any]) -> None:
    """Print the sweeps of a store."""
    if not document["sweeps"]:
        render.console().print("no sweeps; start one with `host sweep SWEEP.toml`")
        return
    figures = ("number", "devices", "jobs", *_STATES)
    table = render.table("number", "name", "created", "devices", "jobs", *_STATES, right=figures)
    for each in document["sweeps"][:_ROWS]:
        jobs = each["jobs"]
        counts = [str(jobs[state]) for state in _STATES]
        when = each["created_at"][:16].replace("T", " ")
        row = (f"#{each['id']}", each["name"], when, str(each["devices"]), str(jobs["total"]), *counts)
        render.add_row(table, *row)
    render.console().print(table)
    _more(len(document["sweeps"]) - _ROWS, "sweeps")


def status_document(sweep: Sweep, progress: Sequence[DeviceProgress], jobs: Sequence[Job]) -> dict[str, Any]:
    """Return the document of `host sweep --status NAME --json`: devices, and jobs that failed or wait after a try."""
    troubled = [
        {
            "artifact": job.wanted.artifact.name,
            "device": job.device,
            "options": dict(job.wanted.options),
            "repeat": job.wanted.repeat,
            "state": job.state.value,
            "attempts": job.attempts,
            "error": job.error,
        }
        for job in jobs
        if job.error is not None and job.state is not JobState.DONE
    ]
    return {
        "schema": SCHEMA,
        "sweep": sweep_document(sweep),
        "devices": [progress_document(each) for each in progress],
        "trouble": troubled,
    }


def show_status(document: Mapping[str, Any]) -> None:
    """Print how far a sweep is."""
    out = render.console()
    sweep = document["sweep"]
    out.print(
        f"{sweep['name']} #{sweep['id']}, created {sweep['created_at'][:16].replace('T', ' ')}, seed {sweep['seed']}"
    )
    table = render.table("device", *_STATES, "", right=_STATES)
    for each in document["devices"][:_ROWS]:
        note = "" if each["set_aside"] is None else f"set aside: {each['set_aside']}"
        render.add_row(table, each["device"], *(str(each[state]) for state in _STATES), note)
    out.print(table)
    _more(len(document["devices"]) - _ROWS, "devices")
    for job in document["trouble"][:_ROWS]:
        out.print(
            f"{job['state']}: {job['artifact']} on {job['device']}, repeat {job['repeat'] + 1}, "
            f"{job['attempts']} {'try' if job['attempts'] == 1 else 'tries'}: {job['error']}",
            markup=False, soft_wrap=True,
        )  # fmt: skip
    _more(len(document["trouble"]) - _ROWS, "jobs in trouble; --json has them all")


def _more(count: int, what: str) -> None:
    if count > 0:
        render.console().print(f"and {count} more {what}", markup=False)
