"""Why every layer has its width, in words, from the record alone. What the record does not hold is not said."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from host.cli import render

#: A budget binds where at least this share of it is used: below, a wider plan would have fitted.
BINDS = 0.97


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """What is said of one group or of one layer that was left alone."""

    name: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """`budgets` say what the plan had to keep and what binds; `groups` are in the order of the network."""

    budgets: tuple[str, ...]
    groups: tuple[Reason, ...]
    left_alone: tuple[Reason, ...]

    def lines(self) -> tuple[str, ...]:
        """Return everything as lines of text."""
        return (
            *self.budgets,
            *(f"{each.name}: {each.text}" for each in self.groups),
            *(f"{each.name} was left alone: {each.text}" for each in self.left_alone),
        )


def explain(record: Mapping[str, Any]) -> Explanation:
    """Return why the plan of `record` (docs/json-schema.md) is as it is. Older records say less."""
    groups: Sequence[Mapping[str, Any]] = record.get("groups") or ()
    if not groups:
        known = "this record was written by a version that kept no prices: it says which widths were taken, and not why"
        return Explanation(
            budgets=(*_budgets(record), known),
            groups=tuple(
                Reason(name=name, text=_kept(each["kept"], each["channels"])) for name, each in record["plan"].items()
            ),
            left_alone=_left_alone(record),
        )
    return Explanation(
        budgets=(*_budgets(record), *_choice(record), *(_going_rate(groups) if record["chosen"] == "latency" else ())),
        groups=tuple(Reason(name=each["name"], text=_group(record, each)) for each in groups),
        left_alone=_left_alone(record),
    )


def _budgets(record: Mapping[str, Any]) -> Iterator[str]:
    target, result = record["target"]["latency_ratio"], record["result"]
    if result is None:
        yield f"latency: {render.ratio_text(target)} of the baseline's was asked for; nothing was trained yet"
        return
    used = result["latency_ratio"] / target
    verb = "binds" if used >= BINDS else "is not used up"
    why = f"; {record['reason']}" if used < BINDS and record["reason"] else ""
    yield (
        f"the latency budget {verb}: {render.ratio_text(target)} of the baseline's was asked for, the result takes "
        f"{render.ratio_text(result['latency_ratio'])}, {render.percent_text(used)} of it{why}"
    )
    budgets = record.get("budgets") or {}
    for key, label, field in (
        ("max_size_bytes", "size", "size_bytes"),
        ("max_memory_bytes", "memory", "peak_memory_bytes"),
    ):
        allowed, found = budgets.get(key), result[field]
        if allowed and found is not None:
            verb = "binds" if found / allowed >= BINDS else "does not bind"
            yield (
                f"the {label} budget {verb}: {render.bytes_text(allowed)} are allowed, the result takes "
                f"{render.bytes_text(found)}, {render.percent_text(found / allowed)} of it"
            )
    energy = record.get("energy")
    if energy and energy["ratio"] is not None and energy["budget_ratio"] is not None:
        used = energy["ratio"] / energy["budget_ratio"]
        yield (
            f"the energy budget {'binds' if used >= BINDS else 'does not bind'}: {render.ratio_text(energy['budget_ratio'])} "
            f"of the baseline's is allowed, the result takes {render.ratio_text(energy['ratio'])}, "
            f"{render.percent_text(used)} of it"
        )


def _choice(record: Mapping[str, Any]) -> Iterator[str]:
    chosen = record["chosen"]
    if chosen == "plan":
        yield "the plan was given, so nothing was weighed here; prices are as far as they were measured"
        return
    compared = [each for each in record.get("candidates") or () if each["round"] == record.get("losses_round")]
    taken = next((each for each in compared if each["taken"]), None)
    others = [each for each in compared if not each["taken"] and each["accuracy"] is not None]
    if taken is not None and taken["accuracy"] is not None:
        text = f"the {chosen} plan was taken: {render.percent_text(taken['accuracy'])} on validation images before fine-tuning"
        if others:
            best = max(others, key=lambda each: float(each["accuracy"]))
            text += (
                f", against {render.percent_text(best['accuracy'])} of the {best['method']} plan, at "
                f"{render.ratio_text(taken['measured_ratio'])} and {render.ratio_text(best['measured_ratio'])} of the latency"
            )
        yield text
    if chosen == "uniform":
        yield "a uniform plan keeps about the same share of every group, so no group's width was weighed against another's"


def _going_rate(groups: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Say what the cheapest narrowing that is left would cost: what a group's own price is to be held against."""
    rates = [(rate, group["name"]) for group in groups if (rate := _rate(_narrower(group))) is not None]
    if rates:
        rate, name = min(rates)
        yield (
            f"the cheapest step that is left would narrow {name}: {_nats(rate)} of calibration loss for each "
            "percent of the baseline's latency; a group stays wider where its own step costs more"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """From the width kept to the next one: channels, rise of the ratio of the whole network, rise of the loss (None: unknown)."""

    width: int
    channels: int
    latency: float | None
    loss: float | None


def _step(group: Mapping[str, Any], width: int) -> _Step:
    kept, ratios, losses = str(group["kept"]), group["latency_ratios"] or {}, group["losses"] or {}
    at = str(width)
    return _Step(
        width=width,
        channels=width - group["kept"],
        latency=ratios[at] - ratios[kept] if at in ratios and kept in ratios else None,
        loss=losses[at] - losses[kept] if at in losses and kept in losses else None,
    )


def _narrower(group: Mapping[str, Any]) -> _Step | None:
    below = [width for width in group["allowed"] if width < group["kept"]]
    return _step(group, max(below)) if below else None


def _wider(group: Mapping[str, Any]) -> _Step | None:
    above = [width for width in group["allowed"] if width > group["kept"]]
    return _step(group, min(above)) if above else None


def _rate(step: _Step | None) -> float | None:
    """Return the loss per percent of latency saved, None where the step saves nothing or is not known."""
    if step is None or step.loss is None or step.latency is None or step.latency >= 0:
        return None
    return step.loss / (-step.latency * 100)


def _group(record: Mapping[str, Any], group: Mapping[str, Any]) -> str:
    sentences = [_kept(group["kept"], group["channels"])]
    sentences += _share(record, group)
    sentences += _widths(record, group)
    narrower, wider = _narrower(group), _wider(group)
    if narrower is not None:
        sentences += _narrowing(narrower)
    elif group["kept"] < group["channels"]:
        sentences.append("this is the narrowest width that is allowed")
    if wider is not None:
        sentences += _widening(wider)
    return "; ".join(sentences)


def _kept(kept: int, channels: int) -> str:
    if kept == 0:
        return f"is gone with its residual branch, all {channels} channels"
    return f"keeps all {channels} channels" if kept == channels else f"keeps {kept} of {channels} channels"


def _share(record: Mapping[str, Any], group: Mapping[str, Any]) -> Iterator[str]:
    layers = [each for each in record["layers"] if group["name"] in (*each["input_groups"], *each["output_groups"])]
    if not layers:
        return
    plural = f"the {len(layers)} layers that read or write them take" if len(layers) > 1 else "the layer takes"
    for key, how in (("share", "node times"), ("modelled_share", "latency model")):
        before = [each["baseline"][key] for each in layers]
        if any(value is None for value in before):
            continue
        text = f"{plural} {render.percent_text(sum(before))} of the baseline's latency on this device ({how})"
        after = [each["result"][key] for each in layers]
        if all(value is not None for value in after):
            text += f" and {render.percent_text(sum(after))} of it after"
        yield text
        return


def _widths(record: Mapping[str, Any], group: Mapping[str, Any]) -> Iterator[str]:
    """Say which widths were open, and which layer of the group wants them so."""
    allowed, name = group["allowed"], group["name"]
    wants = []
    for layer in record["layers"]:
        roles = [role for role in ("output", "input") if name in layer[f"{role}_groups"]]
        if layer["kind"] == "depthwise":
            roles = ["output"] if roles else []
        wants += [step for role in roles if (step := _granularity(record, layer["kind"], role)) is not None]
    strictest = max(wants, key=lambda step: (step["multiple"], _cost_off(step)), default=None)
    fast = ""
    if strictest is not None and strictest["multiple"] > 1:
        fast = f"{strictest['kind']} {strictest['role']} widths are fast in multiples of {strictest['multiple']} on this device"
        cost = _cost_off(strictest)
        if cost > 1:
            fast += f" (off them up to {render.ratio_text(cost)} of the next fast one)"
    if len(allowed) == 1:
        yield f"no narrower width is allowed{f': {fast}' if fast else ''}"
        return
    wide = [width for width in allowed if width > 0]
    steps = {after - before for before, after in itertools.pairwise(wide)}
    each = f" in steps of {min(steps)}" if len(steps) == 1 else ""
    drop = " besides dropping the branch" if 0 in allowed else ""
    plural = "widths were" if len(wide) > 1 else "width was"
    yield f"{len(wide)} {plural} open{drop}, {wide[0]} to {wide[-1]}{each}{f': {fast}' if fast else ''}"


def _granularity(record: Mapping[str, Any], kind: str, role: str) -> Mapping[str, Any] | None:
    steps = (record.get("granularity") or {}).get("steps") or ()
    return next((step for step in steps if step["kind"] == kind and step["role"] == role), None)


def _cost_off(step: Mapping[str, Any]) -> float:
    off = [cost for divisor, cost in step["over_next"].items() if int(divisor) < step["multiple"]]
    return max(off, default=1.0)


def _narrowing(step: _Step) -> Iterator[str]:
    if step.latency is None:
        return
    less = f"{-step.channels} channels fewer" if step.width else "dropping the branch"
    if step.latency >= 0:
        yield f"{less} would not be faster here"
        return
    text = f"{less} would save {render.percent_text(-step.latency, 2)} of the baseline's latency"
    if step.loss is not None:
        text += f" and cost {_nats(step.loss)} of calibration loss"
    rate = _rate(step)
    yield text if rate is None else f"{text}, {_nats(rate)} per percent"


def _widening(step: _Step) -> Iterator[str]:
    if step.latency is None:
        return
    verb = "cost" if step.latency >= 0 else "save"
    text = f"{step.channels} more would {verb} {render.percent_text(abs(step.latency), 2)}"
    if step.loss is None:
        yield f"{text}, and an earlier round removed them"
        return
    rate = f", {_nats(-step.loss / (step.latency * 100))} per percent" if step.latency > 0 else ""
    yield f"{text} and win back {_nats(-step.loss)}{rate}"


def _nats(loss: float) -> str:
    return f"{render.number_text(loss) if abs(loss) >= 5e-5 else '0'} nats"


def _left_alone(record: Mapping[str, Any]) -> tuple[Reason, ...]:
    return tuple(Reason(name=each["layer"], text=each["reason"]) for each in record["left_alone"])
