"""Layer times as data: from the node times of probes, and from what was kept of other models on the same device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from host.search.features import Shape, effective
from host.search.granularity import Granularity
from host.search.network import LayerKind, Network
from host.search.probe import Probe

#: The window of the baseline's own times, which are means over all probes.
BASELINE = "baseline"
#: How the windows of other models' times begin.
KEPT = "kept"
#: Rows kept of one model: more tell little, and every fit takes time with their cube.
MOST_KEPT = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """A layer's time at its widths, the nodes that follow it included. `inward` and `outward` are effective widths, `charge` is
    for being off the device's multiples; `count` measurements were averaged. Observations of one `window` share its speed.

    `time` is in any unit, the same within `window`. `layer` is "" for a layer of another model.
    """

    shape: Shape
    inward: int
    outward: int
    charge: float
    time: float
    window: str
    layer: str = ""
    count: int = 1

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able form, without the layer's name and the window."""
        shape = self.shape
        return {
            "kind": shape.kind.value,
            "kernel": shape.kernel,
            "pixels": [shape.input_pixels, shape.output_pixels],
            "groups": shape.groups,
            "following": shape.following,
            "widths": [self.inward, self.outward],
            "charge": self.charge,
            "time_ns": self.time,
            "count": self.count,
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any], window: str) -> Observation:
        """Return the observation that `to_dict` wrote. Raises KeyError or ValueError on a malformed form."""
        shape = Shape(
            kind=LayerKind(stored["kind"]),
            kernel=int(stored["kernel"]),
            input_pixels=int(stored["pixels"][0]),
            output_pixels=int(stored["pixels"][1]),
            groups=int(stored["groups"]),
            following=int(stored["following"]),
        )
        inward, outward = map(int, stored["widths"])
        charge, time_ns, count = float(stored["charge"]), float(stored["time_ns"]), int(stored["count"])
        if not (inward > 0 and outward > 0 and charge > 0 and time_ns > 0 and count > 0):
            raise ValueError(f"a layer's time that is none: {dict(stored)}")
        return cls(shape=shape, inward=inward, outward=outward, charge=charge, time=time_ns, window=window, count=count)


def observe(network: Network, probes: Sequence[Probe], granularity: Granularity | None) -> list[Observation]:
    """Return the layer times of all probes that have some, and the baseline's own, averaged over the probes."""
    found: list[Observation] = []
    full = network.full_plan().kept
    for name, shape in shapes(network, probes).items():
        layer = next(each for each in network.layers if each.name == name)
        own = [time for probe in probes if (time := (probe.baseline_nodes or {}).get(name, 0.0)) > 0]
        times = [
            (f"probe {place}", probe.plan.kept, (probe.nodes or {}).get(name, 0.0), 1)
            for place, probe in enumerate(probes)
        ]
        if own:
            times.append((BASELINE, full, float(np.mean(own)), len(own)))
        for window, kept, time, count in times:
            widths = layer.widths(kept)
            if time > 0 and all(widths):
                inward, outward, charge = effective(layer, *widths, granularity)
                found.append(
                    Observation(
                        shape=shape,
                        inward=inward,
                        outward=outward,
                        charge=charge,
                        time=time,
                        window=window,
                        layer=name,
                        count=count,
                    )
                )
    return found


def shapes(network: Network, probes: Sequence[Probe]) -> dict[str, Shape]:
    """Return the shape of every layer by its name, with the followers that the probes name."""
    counts: dict[str, int] = {}
    for probe in probes:
        for name, count in (probe.followers or {}).items():
            counts[name] = max(counts.get(name, 0), count)
    return {layer.name: Shape.of(layer, counts.get(layer.name, 0)) for layer in network.layers}


def pooled(observations: Sequence[Observation], scale: float) -> list[Observation]:
    """Return what to keep for other models: times multiplied by `scale`, equal shapes at equal widths averaged."""
    together: dict[tuple[Shape, int, int, float], list[Observation]] = {}
    for each in observations:
        together.setdefault((each.shape, each.inward, each.outward, each.charge), []).append(each)
    kept = []
    for (shape, inward, outward, charge), group in together.items():
        counts = [each.count for each in group]
        mean = float(np.exp(np.average(np.log([each.time for each in group]), weights=counts)))
        kept.append(
            Observation(
                shape=shape,
                inward=inward,
                outward=outward,
                charge=charge,
                time=mean * scale,
                window="kept",
                count=sum(counts),
            )
        )
    step = max(1.0, len(kept) / MOST_KEPT)
    return [kept[int(place * step)] for place in range(min(len(kept), MOST_KEPT))]
