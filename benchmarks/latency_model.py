"""Whether the latency model is right on networks that it has not seen, and how much of the device's time it takes to learn.

Compares: the ratio to the baseline's latency that the model predicts, learned from at most 8 variants of a network, with the
    ratio that the device measures; and the same for the two models that others use, learned from the same variants in the same
    run: a line over MACs, and a regression over whole nets (what is left where a runtime shows no times of nodes).
On: 20 held-out variants at random allowed widths of CIFAR ResNet-20 and ResNet-56 and of MobileNetV2, all for 32x32 images, on
    this machine with one thread. Weights are random: times do not depend on them.
Fair because: every ratio is of a pair in balanced turns in one process, in which drift cancels; none of the held-out variants is
    fitted; the rivals get the same measurements. The held-out ratios have errors of their own: the noise row gives the median
    half-width of their 95 % intervals, and a goal that is missed stays open where that noise alone could miss it, or where other
    work took the processors: runs longer than a time slice of the scheduler's (3 ms) never escape it. Reuse: the
    second and third network are also predicted from their first 3 variants and the layer times of the networks before them.

--models resnet20,resnet56,mobilenet_v2 and --runtimes onnxruntime,litert choose; LiteRT is left out by default (conversions take
a minute per network, and need litert-torch). On a busy machine: sudo nice -n -5 python -m benchmarks.latency_model.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.agents import serving
from benchmarks.latency_nets import QUICK, Effort, Measured, Nets, Predict, errors
from benchmarks.processes import Others
from benchmarks.table import Benchmark, Goal, Row, progress
from device_agent.contract.errors import StableError
from host.fleet.client import AgentClient
from host.fleet.devices import Device
from host.search.latency import LatencyModel, macs_line
from host.search.observations import KEPT, Observation
from host.search.probe import Probe

MODELS = ("resnet20", "resnet56", "mobilenet_v2")
#: Median and 90th percentile of the relative error, in per cent.
GOALS = {"onnxruntime": (1.5, 3.0), "litert": (3.0, 6.0)}
BETTER = Goal(below=1)
#: Variants that a network is learned from where others were learned before.
FEW = 3
#: Median and 90th percentile of the absolute value of a normal distribution, over the half-width of its 95 % interval.
NOISE = (0.6745 / 1.96, 1.645 / 1.96)


def measure(quick: bool, models: Sequence[str], runtimes: Sequence[str]) -> list[Row]:
    """Learn and judge every network on every runtime that is there."""
    rows: list[Row] = []
    with (
        tempfile.TemporaryDirectory(prefix="boardfit-bench-") as name,
        serving(Path(name) / "store") as agent,
        AgentClient(agent.address, timeout_s=120) as client,
    ):
        device = Device(name="local", client=client, info=client.describe())
        for runtime in runtimes:
            kept: list[Observation] = []
            try:
                nets = Nets(device, runtime, Path(name))
                for model in models[:1] if quick else models:
                    others = Others(agent.pid)
                    found = nets.measure(model, QUICK if quick else Effort())
                    rows += judge(found, runtime, kept, others=others.doubt())
                    kept += _kept(found, len(kept))
            except StableError as error:
                progress(str(error))
                rows.append(Row(metric=f"{runtime}: error", value=None, unit="%", reason=f"left out: {error}"))
    return rows


def judge(found: Measured, runtime: str, kept: Sequence[Observation], *, others: str | None = None) -> list[Row]:
    """Return the rows of one network: errors of our model and of the others', noise, and the time that it took.

    `others` says why a missed goal proves nothing, None if the machine was quiet.
    """
    network, probes = found.network, found.probes
    fit = partial(LatencyModel.fit, network, baseline_ns=found.baseline_ns, granularity=found.granularity)
    ours = fit(probes)
    title = f"{found.title}, {runtime}"
    half_widths = [(each.ratio_high - each.ratio_low) / 2 / each.ratio for each in found.held_out]
    noise = 100 * float(np.median(half_widths))
    line = macs_line(network, probes)
    nodeless = fit([_without_nodes(probe) for probe in probes])
    off = errors(_of(ours), found.held_out)
    off_line = errors(lambda plan: line.predict(network.macs(plan.kept)), found.held_out)
    rows = _errors(f"{title}: error, {len(probes)} probes", off, GOALS.get(runtime), noise, others)
    rows += _errors(f"{title}: error, line over MACs", off_line)
    rows += _errors(f"{title}: error, whole nets only", errors(_of(nodeless), found.held_out))
    share = float(np.median(off) / np.median(off_line))
    met = BETTER.holds(share) or (None if others else False)
    rows.append(
        Row(
            metric=f"{title}: median error, ours / MACs",
            value=share,
            unit="ratio",
            goal=str(BETTER),
            met=met,
            reason=None if met else others,
        )
    )
    if kept and len(probes) > FEW:
        few = fit(probes[:FEW], kept=kept)
        rows += _errors(f"{title}: error, {FEW} probes and earlier nets", errors(_of(few), found.held_out))
        alone = fit(probes[:FEW])
        rows += _errors(f"{title}: error, {FEW} probes alone", errors(_of(alone), found.held_out))
    rows.append(Row(metric=f"{title}: noise of a held-out ratio (95 %)", value=noise, unit="%"))
    rows.append(Row(metric=f"{title}: baseline p50", value=found.baseline_ns / 1e6, unit="ms"))
    rows.append(Row(metric=f"{title}: device time, {len(probes)} probes", value=found.probes_s, unit="s"))
    rows.append(Row(metric=f"{title}: device time, asking for fast widths", value=found.widths_s, unit="s"))
    return rows


def _errors(
    title: str,
    off: Sequence[float],
    goals: tuple[float, float] | None = None,
    noise: float = 0.0,
    others: str | None = None,
) -> list[Row]:
    """Return the median and the 90th percentile of errors, in per cent; `noise` is the half-width of the truth's intervals."""
    rows = []
    for place, (name, quantile) in enumerate((("median", 0.5), ("90th percentile", 0.9))):
        value = 100 * float(np.quantile(off, quantile))
        goal = None if goals is None else Goal(high=goals[place])
        met: bool | None = None if goal is None else goal.holds(value)
        reason = None
        if goal is not None and not met:
            reason = others
            if goal.holds(value - NOISE[place] * noise):
                reason = f"too noisy to tell: the held-out ratios are only known within {noise:.1f} %"
            met = None if reason else False
        text = None if goal is None else str(goal)
        rows.append(Row(metric=f"{title}: {name}", value=value, unit="%", goal=text, met=met, reason=reason))
    return rows


def _of(model: LatencyModel) -> Predict:
    return lambda plan: model.predict(plan).ratio


def _without_nodes(probe: Probe) -> Probe:
    return replace(probe, nodes=None, other=None, baseline_nodes=None, followers=None)


def _kept(found: Measured, number: int) -> list[Observation]:
    """Return the layer times of a network as the next one gets them from the store."""
    model = LatencyModel.fit(found.network, found.probes, found.baseline_ns, found.granularity)
    return [Observation.from_dict(each.to_dict(), f"{KEPT} {number}") for each in model.observations()]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; --models and --runtimes beside what every benchmark takes."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--runtimes", default="onnxruntime")
    chosen, rest = parser.parse_known_args(sys.argv[1:] if arguments is None else arguments)
    run = partial(measure, models=chosen.models.split(","), runtimes=chosen.runtimes.split(","))
    return Benchmark(name="latency_model", about=__doc__ or "", measure=run).main(rest)


if __name__ == "__main__":
    sys.exit(main())
