"""The documents of `bench` as text for people on the board, where there is no rich. Figures are rounded here and nowhere else."""

from __future__ import annotations

from typing import Any

from device_agent.contract.soak import throttle_words
from device_agent.terminal import DASH, facts, table, width

_COLUMNS = ("p50", "p90", "p99", "min", "mean")
Rows = list[tuple[str, str]]


def bench_lines(document: dict[str, Any]) -> list[str]:
    """Return the lines of a measurement of one model."""
    columns = width()
    artifact, memory = document["artifact"], document["peak_memory_bytes"]
    peak = DASH if memory is None else f"{_bytes(memory)} above the runtime's import"
    rows: Rows = [
        ("model", f"{artifact['name']}, {_bytes(artifact['size_bytes'])}"),
        *_heading(document, document["runtime"]["provider"]),
        ("latency", _latency(document["latency_ns"])),
        ("undisturbed", _latency(document["latency_undisturbed_ns"])),
        ("runs", f"{document['runs']}, {document['runs_undisturbed']} undisturbed"),
        ("peak memory", peak),
        ("by phase", _phases(document["memory"])),
        ("energy", _energy(document)),
        ("load", _time(document["load_ns"])),
        *(("verdict", _verdict(verdict)) for verdict in document["verdict"]),
        *(("note", note) for note in document["notes"]),
    ]
    lines = facts(rows, columns)
    if document["cold_starts"] is not None:
        lines += ["", *_cold_starts(document["cold_starts"], columns)]
    if document["soak"] is not None:
        lines += ["", *_soak(document, columns)]
    return lines + _layers(document, columns)


def compare_lines(document: dict[str, Any]) -> list[str]:
    """Return the lines of a measurement of several models in turns."""
    columns = width()
    artifacts = document["artifacts"]
    names = [artifact["name"] for artifact in artifacts]
    names = [name if names.count(name) == 1 else f"{name} ({place})" for place, name in enumerate(names, start=1)]
    against = {each["artifact"]: each for each in document["comparisons"]}
    providers = " and ".join(sorted({artifact["provider"] for artifact in artifacts}))
    lines = facts([("models", f"{len(artifacts)} in turns"), *_heading(document, providers)], columns)
    figures = [
        (
            name,
            _time(artifact["latency_ns"]["p50"]),
            _time(artifact["latency_ns"]["p90"]),
            str(artifact["runs"]),
            f"{against[place]['ratio']:.3f}x" if place in against else "baseline",
        )
        for place, (name, artifact) in enumerate(zip(names, artifacts, strict=True))
    ]
    lines += ["", *table(("model", "p50", "p90", "runs", "ratio"), figures, columns), ""]
    rows: Rows = [(names[each["artifact"]], decision_text(each)) for each in document["comparisons"]]
    for name, artifact in zip(names, artifacts, strict=True):
        rows += [(name, _verdict(verdict)) for verdict in artifact["verdict"] if verdict["code"] != "stable"]
    lines += facts([*rows, *(("note", note) for note in document["notes"])], columns)
    for name, artifact in zip(names, artifacts, strict=True):
        if artifact["cold_starts"] is not None:
            lines += ["", f"cold starts of {name}", *_cold_starts(artifact["cold_starts"], columns)]
        lines += _layers(artifact, columns, name)
    return lines


def decision_text(comparison: dict[str, Any]) -> str:
    """Return a decision in words, such as `faster: 0.812x (0.809 - 0.815)`."""
    interval = comparison["ratio_interval"]
    figure = f"{comparison['ratio']:.3f}x" + ("" if interval is None else f" ({interval[0]:.3f} - {interval[1]:.3f})")
    decision = comparison["decision"]
    if decision == "no-difference":
        decision = f"no difference of {comparison['difference'] * 100:.3g} % or more"
    return f"{decision}: {figure}" + (f"; {comparison['hint']}" if comparison["hint"] else "")


def _heading(document: dict[str, Any], provider: str) -> Rows:
    runtime, asked = document["runtime"], document["settings"]
    threads = str(document["threads"])
    if document["cpus"] is not None:
        group = "" if asked["cpu_group"] is None else f" ({asked['cpu_group']})"
        threads += f", pinned to {','.join(map(str, document['cpus']))}{group}"
    rows = [("runtime", f"{runtime['name']} {runtime['version']}, {provider}"), ("threads", threads)]
    beyond = [f"{name}={value}" for name, value in asked["provider_options"].items()]
    beyond += [
        f"{word} {asked[name]}"
        for name, word in (("nice", "nice"), ("batch", "batch"), ("graph_optimization", "graph optimization"))
        if asked[name] is not None
    ]
    if asked["memory_arena"] is not None:
        beyond.append("memory arena" if asked["memory_arena"] else "no memory arena")
    if asked["inputs"] != "random":
        beyond.append("inputs from a file" if asked["inputs"] == "data" else "inputs of zeros")
    return [*rows, ("settings", ", ".join(beyond))] if beyond else rows


def _phases(memory: dict[str, int] | None) -> str:
    if memory is None:
        return DASH
    load, first, steady = (_bytes(memory[f"{part}_bytes"]) for part in ("load", "first_run", "steady"))
    return (
        f"runtime {_bytes(memory['runtime_bytes'])}; above it {load} while loading, {first} in the first run, "
        f"{steady} after it"
    )


def _energy(document: dict[str, Any]) -> str:
    """Return the preferred estimate; others, which are never added to it, are only named."""
    if not document["energy"]:
        return f"{DASH} ({document['energy_unavailable']})"
    first, *others = document["energy"]
    errors = first["uncertainty_j"]
    gross = f"{_joules(first['gross_j'])} ± {_joules(errors['gross'])} gross per run"
    if first["net_j"] is None:
        figure = f"{gross}, no net figure: {first['net_unavailable']}"
    else:
        net = f"{_joules(first['net_j'])} ± {_joules(errors['net'])}"
        figure = f"{net} net of {first['idle_power_w']:.3g} W idle, {gross}"
    figure += f"; {first['meter']}" + (f" ({first['note']})" if first["note"] else "")
    return figure + (f"; also seen by {', '.join(other['meter'] for other in others)}" if others else "")


def _verdict(verdict: dict[str, Any]) -> str:
    value, unit = verdict["value"], verdict["unit"]
    figure = "" if value is None else f" ({_number(value)}{f' {unit}' if unit else ''})"
    return f"{verdict['code']}{figure}{': ' + verdict['hint'] if verdict['hint'] else ''}"


def _cold_starts(starts: dict[str, Any], columns: int) -> list[str]:
    parts = (
        ("start and import", "import_ns"),
        ("load", "load_ns"),
        ("first run", "first_run_ns"),
        (f"in all, {starts['count']} processes", "total_ns"),
    )
    rows = [(name, *(_time(starts[part][key]) for key in ("median", "min", "max"))) for name, part in parts]
    return table(("cold start", "median", "fastest", "slowest"), rows, columns)


def _soak(document: dict[str, Any], columns: int) -> list[str]:
    soak = document["soak"]
    decimals = 0 if soak["asked_s"] >= 60 else 1
    rows = [
        (
            f"{window['end_s']:.{decimals}f} s",
            _time(window["p50_ns"]),
            _time(window["p90_ns"]),
            DASH if window["clock_hz"] is None else f"{window['clock_hz'] / 1e9:.2f} GHz",
            DASH if window["temperature_c"] is None else f"{window['temperature_c']:.1f} °C",
            DASH if window["power_w"] is None else f"{window['power_w']:.2f} W",
            str(window["runs"]),
            _throttling(window),
        )
        for window in soak["windows"]
    ]
    lines = table(("until", "p50", "p90", "clock", "chip", "power", "runs", "throttling"), rows, columns)
    if soak["unrecorded_runs"]:
        made = document["runs"] + soak["unrecorded_runs"]
        lines.append(f"{made} runs were made; {document['runs']}, in turns at even distances, were recorded.")
    return lines


def _throttling(window: dict[str, Any]) -> str:
    words = throttle_words(window["flags"], window["counts"])
    return DASH if words is None else ", ".join(words) or "none"


def _layers(document: dict[str, Any], columns: int, title: str | None = None) -> list[str]:
    if "layers" not in document:
        return []
    heading = "layer" if title is None else f"layer of {title}"
    if document["layers"] is None:
        return facts([("layers", f"{DASH} ({document['layers_unavailable'] or 'the runtime gives none'})")], columns)
    rows = [
        (
            " + ".join(layer["sources"]) or layer["name"],
            layer["op_type"],
            _time(layer["median_ns"]),
            f"{layer['share']:.1%}",
        )
        for layer in document["layers"]
    ]
    total = document["layers_total"]
    share = DASH if total["ratio"] is None else f"{total['ratio']:.0%}"
    words = f"{_time(total['sum_ns'])}, {share} of the plain runs beside them ({_time(total['plain_ns'])})"
    return ["", *table((heading, "kind", "median", "share"), rows, columns), *facts([("in all", words)], columns)]


def _latency(found: dict[str, float] | None) -> str:
    if found is None:
        return DASH
    return ", ".join(f"{name} {_time(found[name])}" for name in _COLUMNS)


def _time(value_ns: float | None) -> str:
    if value_ns is None:
        return DASH
    unit, scale = next((row for row in (("s", 1e9), ("ms", 1e6), ("us", 1e3)) if value_ns >= row[1]), ("ns", 1.0))
    return f"{value_ns / scale:#.3g}".rstrip(".") + f" {unit}"


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def _joules(energy_j: float | None) -> str:
    if energy_j is None:
        return DASH
    unit, scale = next((row for row in (("J", 1.0), ("mJ", 1e-3)) if abs(energy_j) >= row[1]), ("uJ", 1e-6))
    return f"{_number(energy_j / scale)} {unit}"


def _bytes(size: float) -> str:
    unit, scale = next((row for row in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)) if size >= row[1]), ("B", 1.0))
    return f"{size / scale:.3g} {unit}"
