"""Networks, variants of them at random allowed widths, and their ratios as the device measures them, for latency_model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.table import progress
from device_agent.contract.measurement import Measurement
from host.compress.cuts import PrunableNetwork
from host.compress.formats import Format, format_for
from host.compress.groups import analyse
from host.compress.learning import pair_value, probe_of
from host.compress.measuring import Durations, Measuring, settings_for
from host.compress.nodes import ExportedModel
from host.compress.observer import Observer
from host.compress.probing import find_granularity
from host.compress.session import environment
from host.compress.surgery import prune_to
from host.fleet.devices import Device
from host.results.store import ResultStore
from host.search.granularity import Granularity, Step, all_allowed_widths, questions
from host.search.network import Network, Plan
from host.search.probe import Probe, probe_plans
from host.zoo.registry import load_model

IMAGE = (3, 32, 32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How many variants are measured, and for how many seconds of runs: at least, and where the interval is wide at most.

    The device is asked which widths are fast unless `multiple` is given, which is then taken to be.
    """

    multiple: int | None = None
    probes: int = 8
    held_out: int = 20
    probe_s: tuple[float, float] = (1.0, 4.0)
    held_out_s: tuple[float, float] = (2.5, 6.0)


QUICK = Effort(multiple=8, probes=3, held_out=4, probe_s=(0.2, 0.5), held_out_s=(0.2, 0.5))


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One network on one runtime: what a model is learned from, what it is judged by, and what both took of the device."""

    title: str
    network: Network
    granularity: Granularity
    baseline_ns: float
    probes: tuple[Probe, ...]
    held_out: tuple[Probe, ...]
    widths_s: float
    probes_s: float
    held_out_s: float


class Nets:
    """Measures networks on one device and runtime, with one thread. Widths that the device likes are asked for once."""

    def __init__(self, device: Device, runtime: str, folder: Path) -> None:
        self._device, self._runtime, self._folder = device, runtime, folder
        self._settings = settings_for(device, threads=1, provider=None, runtime=runtime)
        self._store = ResultStore.open(f"sqlite:///{folder / runtime}.db")

    def measure(self, name: str, effort: Effort) -> Measured:
        """Measure the zoo's network `name` for CIFAR images, with random weights: times do not depend on them."""
        torch.manual_seed(0)
        module = load_model(name, input_size=IMAGE[1], in_channels=IMAGE[0], num_classes=10).module
        analysed = analyse(module, torch.randn(2, *IMAGE))
        info = self._device.info.runtime(self._runtime)
        assert info is not None
        files = format_for(info, IMAGE, self._folder / "exports", progress)
        baseline = files.export(module, self._folder / f"{name}{files.suffix}")
        files.begin(module, analysed, baseline)
        asking = self._measuring((1.0, 4.0))
        if effort.multiple is None:
            progress(f"{name}: asking which widths are fast")
            where = environment(self._device.info, self._settings)
            granularity = find_granularity(analysed.network, asking, Observer(), where, files)
        else:
            fast = Step(multiple=effort.multiple, over_next={}, decided=True)
            granularity = Granularity(steps=dict.fromkeys(questions(analysed.network), fast))
        widths = all_allowed_widths(analysed.network, granularity)
        variants = _Variants(module, analysed, files, baseline, self._folder)
        probing, judging = self._measuring(effort.probe_s), self._measuring(effort.held_out_s)
        rng = np.random.default_rng(1)
        random = [
            Plan(kept={group: int(rng.choice(of)) for group, of in widths.items()}) for _ in range(effort.held_out)
        ]
        seen: list[float] = []
        probes = variants.measured(
            probing, probe_plans(analysed.network, widths, effort.probes, 0), f"{name}: probe", seen
        )
        held_out = variants.measured(judging, random, f"{name}: held-out net", seen)
        return Measured(
            title=name,
            network=analysed.network,
            granularity=granularity,
            baseline_ns=float(np.median(seen)),
            probes=probes,
            held_out=held_out,
            widths_s=asking.device_ns / 1e9,
            probes_s=probing.device_ns / 1e9,
            held_out_s=judging.device_ns / 1e9,
        )

    def _measuring(self, pair_s: tuple[float, float]) -> Measuring:
        durations = Durations(pair_s=pair_s[0], longest_pair_s=pair_s[1])
        return Measuring(self._device, self._settings, self._store, durations=durations)


@dataclass(frozen=True)
class _Variants:
    module: nn.Module
    analysed: PrunableNetwork
    files: Format
    baseline: ExportedModel
    folder: Path

    def measured(
        self, measuring: Measuring, plans: Sequence[Plan], title: str, baselines_ns: list[float]
    ) -> tuple[Probe, ...]:
        """Return a probe of each plan in turns with the baseline; the baseline's p50 of each pair is added to `baselines_ns`."""
        found = []
        for number, plan in enumerate(plans):
            progress(f"{title} {number + 1} of {len(plans)}")
            pruned = prune_to(self.analysed, self.module, plan)
            file = self.files.variant(pruned, plan, self.folder / f"variant{self.files.suffix}")
            pair = measuring.compare(self.baseline, file, "variant", profile=True)
            found.append(probe_of(pair_value(plan, pair), same_files=True))
            baselines_ns.append(_p50_ns(pair.measurement))
        return tuple(found)


def _p50_ns(measurement: Measurement) -> float:
    quiet = measurement.latencies_ns(0, undisturbed=True) or measurement.latencies_ns(0)
    return float(np.median(quiet))


Predict = Callable[[Plan], float]


def errors(predict: Predict, held_out: Sequence[Probe]) -> list[float]:
    """Return the relative errors of predictions on measured plans."""
    return [abs(predict(probe.plan) / probe.ratio - 1) for probe in held_out]
