"""The device as a compression uses it: exported variants in, latencies, ratios to the baseline and node times out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from device_agent.contract.errors import RuntimeUnavailable
from device_agent.contract.measurement import MeasureEvent, Measurement
from device_agent.contract.paired_tails import paired_percentile_ratio
from device_agent.contract.pairs import PairedRatio, paired_ratio
from device_agent.contract.settings import MeasureRequest, Settings, Stopping
from device_agent.contract.statistics import percentile
from host.compress.node_shares import NodeShares, node_shares
from host.compress.nodes import assign_nodes

if TYPE_CHECKING:
    from host.compress.nodes import ExportedModel
    from host.fleet.devices import Device
    from host.fleet.tenancy import Tenancy
    from host.results.store import ResultStore

_T = TypeVar("_T")

#: Half-width of the ratio's interval at which a pair counts as known.
PRECISION = 0.01
#: Runs that give a ratio blocks enough for an interval: eight blocks of two turns of five, the first of a turn left out.
INTERVAL_RUNS = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Durations:
    """Seconds of timed runs per artifact: at least, and for pairs at most, until the ratio's interval is within PRECISION."""

    alone_s: float = 2.0
    pair_s: float = 1.0
    longest_pair_s: float = 7.0
    longest_turns_s: float = 4.0
    final_s: float = 3.0
    longest_final_s: float = 20.0
    layer_s: float = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A candidate against the baseline in the same turns. Node times are by layer name, as fractions of the baseline's sum.

    `shares` has them as the latency model takes them, with the nodes that follow a layer.
    """

    ratio: PairedRatio
    measurement: Measurement
    nodes: Mapping[str, float] | None
    other: float | None
    baseline_nodes: Mapping[str, float] | None = None
    shares: NodeShares | None = None

    def at(self, percent: int) -> PairedRatio:
        """Return the paired ratio of a percentile of the runs, `ratio` for the median."""
        return self.ratio if percent == 50 else paired_percentile_ratio(self.measurement, percent)


class Measuring:
    """Measures exported models on one device under one set of settings, and keeps every measurement in the store.

    With a tenancy the device is nobody else's while it is used here, and free for others meanwhile.
    """

    def __init__(
        self,
        device: Device,
        settings: Settings,
        store: ResultStore | None,
        *,
        durations: Durations | None = None,
        on_event: Callable[[MeasureEvent], None] | None = None,
        tenancy: Tenancy | None = None,
    ) -> None:
        self.device = device
        self.settings = settings
        self.store = store
        self.durations = durations or Durations()
        self.device_ns = 0
        #: A line for each measurement made here, as plain JSON values (docs/results.md).
        self.made: list[dict[str, Any]] = []
        self._on_event = on_event
        self._tenancy = tenancy

    @property
    def waited_ns(self) -> int:
        """How long the device was waited for so far, while others had it."""
        return 0 if self._tenancy is None else round(self._tenancy.waited_s * 1e9)

    def push(self, path: Path, name: str) -> str:
        """Bring a file to the device and return its hash; a file that is there already moves no bytes."""
        return self._alone(lambda: self.device.client.push(path, name=name).artifact.sha256)

    def alone(self, model: ExportedModel, name: str) -> Measurement:
        """Measure one model in a worker of its own: the one way to learn its peak memory."""
        sha256 = self.push(model.path, name)
        return self._measure(
            (sha256,), Stopping(min_time_s=self.durations.alone_s, max_time_s=5 * self.durations.alone_s), names=(name,)
        )

    def compare(
        self,
        baseline: ExportedModel,
        candidate: ExportedModel,
        name: str,
        *,
        final: bool = False,
        profile: bool = False,
        longer: float = 1.0,
    ) -> Comparison:
        """Measure `candidate` in turns with `baseline`, until the interval of the ratio is within PRECISION or time is up.

        `longer` multiplies both times.
        """
        durations = self.durations
        time_s, longest_s = durations.pair_s, durations.longest_pair_s
        if final:
            time_s, longest_s = durations.final_s, durations.longest_final_s
        stopping = Stopping(
            warmup_time_s=0.2, min_time_s=time_s * longer, max_time_s=longest_s * longer, precision=PRECISION
        )
        hashes = (self.push(baseline.path, "baseline"), self.push(candidate.path, name))
        measurement = self._measure(hashes, stopping, names=("baseline", name), profile=profile)
        ratio = paired_ratio(measurement)
        nodes, other, base = _node_shares(measurement, baseline, candidate) if profile else (None, None, None)
        ours, theirs = measurement.result.artifacts[1].nodes, measurement.result.artifacts[0].nodes
        return Comparison(
            ratio=ratio,
            measurement=measurement,
            nodes=nodes,
            other=other,
            baseline_nodes=base,
            shares=node_shares(ours, theirs, (candidate, baseline)) if ours and theirs else None,
        )

    def in_turns(self, models: Sequence[ExportedModel], names: Sequence[str], *, slowest_run_s: float) -> Measurement:
        """Measure several models in balanced turns in one worker; the first is the baseline of what is decided on them.

        A run of the slowest takes about `slowest_run_s`: there is time for INTERVAL_RUNS of those, up to `longest_final_s`.
        """
        durations = self.durations
        longest_s = max(durations.longest_turns_s, min(INTERVAL_RUNS * slowest_run_s, durations.longest_final_s))
        stopping = Stopping(warmup_time_s=0.2, min_time_s=durations.pair_s, max_time_s=longest_s, precision=PRECISION)
        hashes = tuple(self.push(model.path, name) for model, name in zip(models, names, strict=True))
        return self._measure(hashes, stopping, names=names)

    def layers(self, paths: Sequence[Path], names: Sequence[str], *, longer: float = 1.0) -> list[PairedRatio]:
        """Measure several files in balanced turns; return the ratio of each to the first (the first's own is left out)."""
        time_s = self.durations.layer_s * longer
        hashes = tuple(self.push(path, name) for path, name in zip(paths, names, strict=True))
        stopping = Stopping(
            warmup_runs=3,
            warmup_time_s=0.05,
            min_runs=10,
            min_time_s=time_s,
            max_time_s=time_s,
            precision=None,
        )
        measurement = self._measure(hashes, stopping, names=names, keep=False)
        return [paired_ratio(measurement, 0, index) for index in range(1, len(paths))]

    def outputs(self, model: ExportedModel, images: np.ndarray) -> np.ndarray:
        """Run `images` (N, C, H, W) one by one on the device; return the first outputs stacked, (N, classes)."""
        sha256 = self.push(model.path, model.path.stem)

        def ask() -> np.ndarray:
            batches: Iterable[Mapping[str, np.ndarray]] = ({model.input_name: image[None]} for image in images)
            replies = self.device.client.infer(sha256, self.settings, batches)
            return np.concatenate([reply[model.output_name] for reply in replies])

        return self._alone(ask)

    def _measure(
        self,
        hashes: tuple[str, ...],
        stopping: Stopping,
        *,
        names: Sequence[str],
        profile: bool = False,
        keep: bool = True,
    ) -> Measurement:
        request = MeasureRequest(artifacts=hashes, settings=self.settings, stopping=stopping, profile_nodes=profile)
        measurement = self._alone(lambda: self.device.client.measure(request, on_event=self._on_event))
        self.device_ns += measurement.result.device_time_ns
        kept_as = None
        if self.store is not None and keep:
            kept_as = self.store.add_measurement(measurement, device=self.device.info, artifact_names=tuple(names))
        self.made.append(summary(measurement, names, kept_as))
        return measurement

    def _alone(self, call: Callable[[], _T]) -> _T:
        """Make a call to the device while nobody else uses it; it is repeated if the lease is lost meanwhile."""
        return call() if self._tenancy is None else self._tenancy.run(call)


def settings_for(
    device: Device, *, threads: int | None, provider: str | None, runtime: str = "onnxruntime"
) -> Settings:
    """Return the settings of a compression on `device`. RuntimeUnavailable, with what to do, if it cannot run `runtime`."""
    found = {each.name: each for each in device.info.runtimes}
    wanted = found.get(runtime)
    if wanted is None or wanted.unavailable is not None:
        reason = wanted.unavailable if wanted is not None else "the agent does not know it"
        others = [each.name for each in device.info.runtimes if each.unavailable is None]
        instead = f", or compress for another one that it has: --runtime {others[0]}" if others else ""
        raise RuntimeUnavailable(
            f"device {device.name!r} cannot run {runtime} ({reason}), on which variants would be measured: install it on the "
            f"board with pip install 'boardfit[{runtime}]' and restart the agent{instead}"
        )
    return Settings(runtime=runtime, threads=threads or device.info.default_threads, provider=provider)


def summary(measurement: Measurement, names: Sequence[str], measurement_id: int | None) -> dict[str, Any]:
    """Return what measurements.jsonl says of a measurement; ratios are to the first artifact."""
    artifacts = measurement.result.artifacts
    ratios = [paired_ratio(measurement, 0, index) for index in range(1, len(artifacts))]
    return {
        "measurement_id": measurement_id,
        "device_seconds": measurement.result.device_time_ns / 1e9,
        "artifacts": [
            {
                "name": name,
                "sha256": found.sha256,
                "latency_p50_ns": percentile(measurement.latencies_ns(index), 50),
                "ratio": None if index == 0 else ratios[index - 1].ratio,
                "ratio_interval": None
                if index == 0 or ratios[index - 1].low is None
                else [ratios[index - 1].low, ratios[index - 1].high],
                "verdict": [verdict.code.value for verdict in found.verdicts],
            }
            for index, (name, found) in enumerate(zip(names, artifacts, strict=True))
        ],
    }


def _node_shares(
    measurement: Measurement, baseline: ExportedModel, candidate: ExportedModel
) -> tuple[Mapping[str, float] | None, float | None, Mapping[str, float] | None]:
    """Return the candidate's node times as fractions of the baseline's sum in the same window: common drift cancels.

    Layers, what belongs to no layer, and the baseline's own layers.
    """
    ours, theirs = measurement.result.artifacts[1].nodes, measurement.result.artifacts[0].nodes
    if ours is None or theirs is None:
        return None, None, None
    layers, other = assign_nodes(ours, candidate)
    base_layers, base_other = assign_nodes(theirs, baseline)
    total = sum(base_layers.values()) + base_other
    shares = {name: time / total for name, time in layers.items()}
    return shares, other / total, {name: time / total for name, time in base_layers.items()}
