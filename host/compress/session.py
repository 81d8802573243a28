"""What all stages of a compression share: the original, its analysis, the journal, and probes on the device."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from device_agent.contract.device import DeviceInfo
from device_agent.contract.settings import Settings
from host.compress.cuts import PrunableNetwork
from host.compress.energy_budget import check_meter, energy_ratio
from host.compress.energy_learning import learn_energy
from host.compress.footprint import learn_memory
from host.compress.formats import Format
from host.compress.journal import Journal
from host.compress.learning import learn_latency, pair_value, probe_of
from host.compress.measuring import Measuring
from host.compress.nodes import ExportedModel
from host.compress.observer import Observer
from host.compress.options import CompressOptions
from host.compress.pricing import Pricing
from host.compress.probing import find_granularity
from host.compress.resolution import Size, View, first_view, seen_at, view_at
from host.compress.subject import Subject
from host.compress.surgery import prune_to
from host.compress.trace import Timeline, Trace
from host.compress.variants import FLOAT32
from host.search.energy import EnergyModel
from host.search.granularity import Granularity, all_allowed_widths
from host.search.latency import LatencyModel
from host.search.limits import Budgets
from host.search.meeting import Tried
from host.search.memory import MemoryModel
from host.search.network import Network, Plan
from host.search.probe import Probe
from host.search.solution import parameters


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """A network on its way. `kept` holds the original's channel indices by group, `plan` their counts."""

    module: nn.Module
    plan: Plan
    kept: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """What a pricing costs: allowed widths by group, the models fitted, and what the trace shows of it."""

    widths: dict[str, tuple[int, ...]]
    granularity: Granularity
    model: LatencyModel
    memory: MemoryModel | None
    energy: EnergyModel | None
    energy_ratio: float | None
    probes: Mapping[str, Mapping[str, Any]]


class Session:
    """Finished steps are in the journal in `out`; a run that was stopped goes on with the first unfinished one.

    Variants of the network are built and measured as `pricing` says, float32 until `price_in` is called.
    """

    def __init__(
        self, options: CompressOptions, subject: Subject, measuring: Measuring, out: Path, observer: Observer
    ) -> None:
        self.options, self.subject, self.measuring, self.out = options, subject, measuring, out
        self.observer, self.trace = Timeline(observer), Trace()
        self._counted: set[str] = set()
        info = measuring.device.info
        if options.max_energy is not None:
            check_meter(info, measuring.device.name)
        where = {"device": measuring.device.name, "environment": environment(info, measuring.settings)}
        self.journal = Journal(out, {**options.identity(), **where, **subject.fingerprints()})
        self.original = subject.model.module
        #: The network at the resolution of the baseline, and at the one that plans are made for.
        self.own = self.view = first_view(self, torch.from_numpy(subject.data.train.images[:2].copy()))
        self._views: dict[Size | None, View] = {None: self.own}
        self.pricing = self.own.pricing
        self._learned: dict[str, Learned] = {}
        #: Latencies (over the baseline's) at which the front is to be shown; none: a few of every size.
        self.front_ratios: tuple[float, ...] = ()
        #: Peak memory (bytes) of the baseline, once it is measured.
        self.baseline_peak: int | None = None
        #: What predicts a plan's peak memory; None where there is no budget for it, or nothing that tells.
        self.memory: MemoryModel | None = None
        #: Prices of energy, and the budget as a share of the baseline's; None without an energy budget.
        self.energy: EnergyModel | None = None
        self.energy_ratio: float | None = None

    @property
    def baseline(self) -> ExportedModel:
        """The original's own file, with which everything runs in turns."""
        return self.own.pricing.whole

    @property
    def analysed(self) -> PrunableNetwork:
        """The analysis of the network at the resolution that plans are made for."""
        return self.view.analysed

    @property
    def network(self) -> Network:
        """Its layers and groups."""
        return self.view.analysed.network

    @property
    def example(self) -> torch.Tensor:
        """Images (N, C, H, W) of that resolution."""
        return self.view.example

    @property
    def format(self) -> Format:
        """What makes files of that resolution."""
        return self.view.format

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of what the result's file takes."""
        return self.analysed.input_shape

    def view_of(self, size: Size | None) -> View:
        """Return the network at a resolution, None for the baseline's own. ModelNotPrunable if it does not run on such images."""
        if size not in self._views:
            assert size is not None
            self._views[size] = view_at(self, size)
        return self._views[size]

    def use(self, view: View) -> None:
        """Plan for this resolution from now on, in float32."""
        self.view = view
        self.price_in(view.pricing)

    def price_in(self, pricing: Pricing) -> None:
        """Build and measure variants in another precision from now on; what was learned in the one before is no longer shown."""
        self.pricing = pricing
        self.trace.forget_plans()

    @property
    def budgets(self) -> Budgets:
        """What a plan may cost besides latency."""
        return Budgets(
            max_parameters=self._max_parameters(),
            max_memory_bytes=None if self.memory is None else self.options.max_memory_bytes,
            memory=self.memory,
            energy_ratio=self.energy_ratio,
            energy=self.energy,
        )

    def _max_parameters(self) -> int | None:
        """Return the size budget as parameters of the layers; what else the whole network's file holds is taken to stay."""
        budget, each = self.options.max_size_bytes, self.pricing.bytes_per_parameter
        if budget is None:
            return None
        return max(0, budget - self.size_of({})) // each

    def size_of(self, kept: Mapping[str, int]) -> int:
        """Return the bytes that a planned network's file should have; of the file without any layer for no groups."""
        each, full = self.pricing.bytes_per_parameter, parameters(self.network, self.network.full_plan().kept)
        own = parameters(self.network, kept) if kept else 0
        return self.pricing.whole.size_bytes - each * (full - own)

    def start(self) -> State:
        """Return the original, with every channel, at the resolution that plans are made for."""
        kept = {group.name: tuple(range(group.channels)) for group in self.network.groups}
        return State(module=seen_at(self.original, self.view.size), plan=self.network.full_plan(), kept=kept)

    def export(self, module: nn.Module, name: str) -> ExportedModel:
        """Export `module` as OUT/NAME, as the device's runtime takes it."""
        return self.format.export(module, self.out / f"{name}{self.format.suffix}")

    def variant(self, module: nn.Module, plan: Plan) -> ExportedModel:
        """Write what is as fast as `module`, the original pruned to `plan`, for timing only."""
        return self.pricing.files.variant(module, plan, self.out / f"variant{self.format.suffix}")

    def once(self, key: str, step: Callable[[], Any]) -> Any:
        """Run a step, or return what the journal has of it; the device time that it took is part of the record."""

        def timed() -> dict[str, Any]:
            before, made, began = self.measuring.device_ns, len(self.measuring.made), self.observer.seconds
            value = step()
            return {
                "value": value,
                "device_ns": self.measuring.device_ns - before,
                "seconds": self.observer.seconds - began,
                "measurements": self.measuring.made[made:],
            }

        if key not in self.journal:
            entry = self.journal.once(key, timed)
        else:
            entry = self.journal.once(key, dict)
            if key not in self._counted:  # a step may be asked for twice in one run
                self.measuring.device_ns += entry["device_ns"]
                self.observer.skipped_s += entry.get("seconds", 0.0)
        if key not in self._counted:
            self._counted.add(key)
            self.trace.measurements += [{"step": key, **each} for each in entry.get("measurements", ())]
        return entry["value"]

    def learned(self, baseline_ns: float) -> tuple[dict[str, tuple[int, ...]], LatencyModel]:
        """Return the allowed widths by group and what predicts latencies, learned once for each pricing.

        Raises ModelNotPrunable where the device's fast widths leave no choice.
        """
        known = self._learned.get(self.pricing.prefix)
        if known is None:
            widths, granularity = self.widths()
            known = self._learned[self.pricing.prefix] = self._learn(widths, granularity, baseline_ns)
        self.memory, self.energy, self.energy_ratio = known.memory, known.energy, known.energy_ratio
        self.trace.granularity = known.granularity.to_dict()
        self.trace.widths = {name: list(each) for name, each in known.widths.items()}
        for key, value in known.probes.items():
            self.trace.probe(key, value)
        return known.widths, known.model

    def widths(self) -> tuple[dict[str, tuple[int, ...]], Granularity]:
        """Ask the device which widths it runs fast; return those allowed by group."""
        self.observer.stage(f"asking the device which widths it runs fast{self.pricing.label}")
        found = self.once(
            f"{self.pricing.prefix}granularity",
            lambda: find_granularity(
                self.network, self.measuring, self.observer, self.where(), self.pricing.files
            ).to_dict(),
        )
        granularity = Granularity.from_dict(found)
        for line in granularity.summary():
            self.observer.note(line)
        return all_allowed_widths(self.network, granularity), granularity

    def where(self) -> dict[str, Any]:
        """Return what must be equal for times to be comparable with those that are measured here."""
        return environment(self.measuring.device.info, self.measuring.settings, self.pricing.key)

    def _learn(self, widths: dict[str, tuple[int, ...]], granularity: Granularity, baseline_ns: float) -> Learned:
        """Measure variants of the whole network, each in turns with the baseline, and fit what every width costs."""
        model = learn_latency(self, widths, granularity, baseline_ns)
        memory = self._learn_memory(widths)
        energy = None if self.options.max_energy is None else learn_energy(self, model, widths)
        return Learned(
            widths=widths,
            granularity=granularity,
            model=model,
            memory=memory,
            energy=energy,
            energy_ratio=None if self.options.max_energy is None else energy_ratio(self, energy),
            probes={
                key: value for key, value in self.trace.probes.items() if key.startswith(f"{self.pricing.prefix}probe ")
            },
        )

    def _learn_memory(self, widths: Mapping[str, tuple[int, ...]]) -> MemoryModel | None:
        """Return what predicts peak memory in this pricing; None without a budget that the baseline itself does not keep."""
        budget, peak = self.options.max_memory_bytes, self.baseline_peak
        if budget is None or (peak is not None and peak <= budget):
            return None
        return learn_memory(self.network, widths, self._peak, self.observer)

    def _peak(self, plan: Plan) -> int | None:
        """Return the peak memory (bytes) of a plan as the device measures it alone."""

        def measure() -> int | None:
            exported = self.variant(prune_to(self.analysed, self.original, plan), plan)
            return self.measuring.alone(exported, "memory").result.artifacts[0].peak_memory_bytes

        if plan == self.network.full_plan() and self.pricing.whole is self.baseline:
            return self.baseline_peak
        key = f"{self.pricing.prefix}memory of {sum(plan.kept.values())} channels"
        found: int | None = self.once(key, measure)
        return found

    def probe(self, key: str, plan: Plan, build: Callable[[], nn.Module], *, longer: float = 1.0) -> Probe:
        """Measure the module that `build` makes for `plan` in turns with the baseline; `longer` as in Measuring.compare."""

        def measure() -> dict[str, Any]:
            variant = self.variant(build(), plan)
            found = self.measuring.compare(self.baseline, variant, key, profile=True, longer=longer)
            return {**pair_value(plan, found), "aimed": dataclasses.asdict(found.at(self.options.target.percentile))}

        value = self.once(key, measure)
        self.trace.probe(key, value)
        return probe_of(value, same_files=self.pricing.of_baseline)

    def tried(self, key: str, probe: Probe) -> Tried:
        """Return what a probe's measurement says of the percentile that the target is about; `key` is as in `probe`."""
        aimed = self.trace.probes[key].get("aimed")
        if self.options.target.percentile == 50 or aimed is None:
            return Tried(plan=probe.plan, ratio=probe.ratio, low=probe.ratio_low, high=probe.ratio_high)
        return Tried(plan=probe.plan, ratio=aimed["ratio"], low=aimed["low"], high=aimed["high"])


def environment(info: DeviceInfo, settings: Settings, precision: str = FLOAT32) -> dict[str, Any]:
    """Return what must be equal for times to be comparable: board, processor, runtime, settings and precision."""
    runtime = info.runtime(settings.runtime)
    assert runtime is not None
    return {
        "board": info.board,
        "cpu": info.cpu,
        "architecture": info.architecture,
        "governor": info.governor,
        "runtime": runtime.name,
        "runtime_version": runtime.version,
        "provider": settings.provider,
        "threads": settings.threads,
        "precision": precision,
    }
