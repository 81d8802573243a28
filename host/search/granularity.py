"""Which widths a device likes, decided from measured latencies of single-layer models.

Kernels work in blocks, so latency is a staircase over the width, and some runtimes fall back to a slow kernel
off a block. A plan uses the edges of the plateaus only. The rule: a finer multiple is allowed when the widths
that only it allows are seen to be cheaper than the next larger width of the coarser one; where noise forbids
that decision, the coarser multiple stays.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from host.search.network import Group, Layer, LayerKind, Network

#: Multiples that are tried, from fine to coarse. Powers of two: every kernel known to us blocks by one.
MULTIPLES = (1, 2, 4, 8, 16)
#: What kernels that compute blocks of channels block by at least. Where other work kept it open whether that is fast, and the
#: widths seen lie nearer to it than not, it is taken.
USUAL = 8
#: Offsets from the reference. Every width but the ends lies midway between two neighbours of the next coarser multiple.
OFFSETS = (0, 1, 2, 4, 6, 8, 10, 12, 14, 15, 16)
#: One-sided 95 % of a normal distribution.
SURENESS = 1.645
#: Full width of a 95 % interval in standard deviations.
INTERVAL_WIDTH = 3.92
#: Where between the line (0) and the plateau (1) a width must surely lie below to count as an edge.
THRESHOLD = 0.6


class Role(str, Enum):
    """The side of a layer whose width is varied. A depthwise layer has one width, counted as its output."""

    INPUT = "input"
    OUTPUT = "output"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbePoint:
    """Latency of a single-layer model at `width`, over its latency at the reference width, with a 95 %
    interval.
    """

    kind: LayerKind
    role: Role
    width: int
    ratio: float
    low: float
    high: float

    def __post_init__(self) -> None:
        if self.width < 1 or not 0 < self.low <= self.ratio <= self.high or not math.isfinite(self.high):
            raise ValueError(
                f"probe point {self.kind.value} {self.role.value} width {self.width}: "
                f"ratio {self.ratio} in [{self.low}, {self.high}]"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The answer for one kind and role.

    `over_next[m]`: latency of widths whose largest candidate divisor is m, over that of the next larger width
    that is faster per channel (mean over the widths seen). 1 or more: they gain nothing. `decided` False:
    noise left more than one answer open, and `multiple` is the coarser one, or the likelier one where that is USUAL or more.
    """

    multiple: int
    over_next: Mapping[int, float]
    decided: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Granularity:
    """The multiples a device runs fast, per kind of layer and role. Stored with the device as a plain
    dict.
    """

    steps: Mapping[tuple[LayerKind, Role], Step]

    def multiple(self, kind: LayerKind, role: Role) -> int:
        """Return the multiple for a kind and role; one never asked gets its nearest relative's, else the
        coarsest.
        """
        if kind is LayerKind.DEPTHWISE:
            role = Role.OUTPUT
        step = self.steps.get((kind, role))
        if step is None and kind is LayerKind.GROUPED:
            step = self.steps.get((LayerKind.CONV, role))
        return MULTIPLES[-1] if step is None else step.multiple

    def fast(self, layer: Layer, width_in: int, width_out: int) -> bool:
        """Return whether both widths lie on the device's multiples; a width that no plan changes always does."""
        on_output = not layer.outputs or width_out % self.multiple(layer.kind, Role.OUTPUT) == 0
        if layer.kind is LayerKind.DEPTHWISE or not layer.inputs:
            return on_output
        return on_output and width_in % self.multiple(layer.kind, Role.INPUT) == 0

    def effective(self, layer: Layer, width_in: int, width_out: int) -> tuple[int, int, float]:
        """Return the widths that the kernels really compute, and the charge for a width off the multiples (1:
        none).

        An input that no plan changes (an image's channels) counts as it is.
        """
        inward, input_charge = width_in, 1.0
        if layer.inputs and layer.kind is not LayerKind.DEPTHWISE:
            inward, input_charge = self._rounded(layer.kind, Role.INPUT, width_in)
        outward, output_charge = width_out, 1.0
        if layer.outputs:
            outward, output_charge = self._rounded(layer.kind, Role.OUTPUT, width_out)
        return inward, outward, input_charge * output_charge

    def _rounded(self, kind: LayerKind, role: Role, width: int) -> tuple[int, float]:
        multiple = self.multiple(kind, role)
        if width % multiple == 0:
            return width, 1.0
        divisor = max(m for m in MULTIPLES if width % m == 0)
        step = self.steps.get((kind, role))
        seen = None if step is None else step.over_next.get(divisor)
        return math.ceil(width / multiple) * multiple, 1.0 if seen is None else max(seen, 1.0)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able form."""
        return {
            "steps": [
                {
                    "kind": kind.value,
                    "role": role.value,
                    "multiple": step.multiple,
                    "decided": step.decided,
                    "over_next": {str(multiple): cost for multiple, cost in sorted(step.over_next.items())},
                }
                for (kind, role), step in self.steps.items()
            ]
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Granularity:
        """Return the granularity that `to_dict` wrote. Raises KeyError or ValueError on a malformed form."""
        return cls(
            steps={
                (LayerKind(row["kind"]), Role(row["role"])): Step(
                    multiple=int(row["multiple"]),
                    decided=bool(row["decided"]),
                    over_next={int(multiple): float(cost) for multiple, cost in row["over_next"].items()},
                )
                for row in stored["steps"]
            }
        )

    def summary(self) -> tuple[str, ...]:
        """Return one line per kind and role: the fast multiple, and what widths off it cost."""
        return tuple(_line(kind, role, step) for (kind, role), step in self.steps.items())


def _line(kind: LayerKind, role: Role, step: Step) -> str:
    if step.multiple == 1:
        return f"{kind.value} {role.value} width: any is fast"
    text = f"{kind.value} {role.value} width: fast at multiples of {step.multiple}"
    off = [
        f"{cost:.2f}x at {'odd ones' if divisor == 1 else f'other multiples of {divisor}'}"
        for divisor, cost in sorted(step.over_next.items(), reverse=True)
        if divisor < step.multiple
    ]
    if off:
        text += f"; latency over that of the next larger one: {', '.join(off)}"
    if not step.decided:
        text += " (other work kept finer ones open: asked again the next time)"
    return text


def probe_widths(reference: int = 64) -> tuple[int, ...]:
    """Return the widths to ask around `reference` (a multiple of 16), ascending, itself included.

    They serve each of output width, input width and depthwise width; the other width of the layer stays at
    `reference`.
    """
    if reference < MULTIPLES[-1] or reference % MULTIPLES[-1]:
        raise ValueError(f"reference must be a positive multiple of {MULTIPLES[-1]}, got {reference}")
    return tuple(reference + offset for offset in OFFSETS)


def questions(network: Network) -> tuple[tuple[LayerKind, Role], ...]:
    """Return the kinds and roles whose widths can change in `network`: what the device must be asked, and no
    more.
    """
    asked: dict[tuple[LayerKind, Role], None] = {}
    for layer in network.layers:
        if layer.outputs:
            asked[(layer.kind, Role.OUTPUT)] = None
        if layer.inputs and layer.kind is not LayerKind.DEPTHWISE:
            asked[(layer.kind, Role.INPUT)] = None
    return tuple(asked)


def fast_multiples(points: Sequence[ProbePoint]) -> Granularity:
    """Decide the fast multiples from `points`; each kind and role needs at least two widths at multiples of
    16.
    """
    series: dict[tuple[LayerKind, Role], dict[int, ProbePoint]] = {}
    for point in points:
        series.setdefault((point.kind, point.role), {})[point.width] = point
    return Granularity(steps={key: _decide(key, by_width) for key, by_width in series.items()})


def _decide(key: tuple[LayerKind, Role], points: Mapping[int, ProbePoint]) -> Step:
    current = MULTIPLES[-1]
    if sum(width % current == 0 for width in points) < 2:
        raise ValueError(
            f"{key[0].value} {key[1].value} widths {sorted(points)}: need two multiples of {current} at least"
        )
    decided = True
    for finer in reversed(MULTIPLES[:-1]):
        found = _evidence(points, finer, current)
        sure = found.surely_edges or found.surely_none
        # A coarse multiple may leave a narrow network no choice at all; what other work kept open is weighed again
        # by the whole-network variants.
        likely = finer >= USUAL and found.contrast < 0 and not found.seen_slower
        if not found.surely_edges and not (likely and not sure):
            decided = decided and sure
            break
        decided = decided and sure
        current = finer
    return Step(multiple=current, over_next=_over_next(points, current), decided=decided)


def _neighbours(points: Mapping[int, ProbePoint], width: int, multiple: int) -> tuple[int, int] | None:
    below = [other for other in points if other < width and other % multiple == 0]
    above = [other for other in points if other > width and other % multiple == 0]
    return (max(below), min(above)) if below and above else None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Evidence:
    """Whether widths at a finer multiple are edges of their own: `contrast` below 0 says so, `deviation` how sure that is."""

    contrast: float
    deviation: float
    seen_slower: bool

    @property
    def surely_edges(self) -> bool:
        return self.contrast + SURENESS * self.deviation < 0 and not self.seen_slower

    @property
    def surely_none(self) -> bool:
        return self.contrast - SURENESS * self.deviation > 0


def _evidence(points: Mapping[int, ProbePoint], finer: int, current: int) -> _Evidence:
    """Weigh the widths at multiples of `finer` but not of `current`.

    The evidence is one linear contrast over all such widths: latency minus the point THRESHOLD of the way
    from the line through the neighbours to the plateau of the next multiple of `current`. Below 0 means near
    the line.
    """
    weights: dict[int, float] = {}
    seen_slower = False
    for width in points:
        around = _neighbours(points, width, current) if width % finer == 0 and width % current else None
        if around is None:
            continue
        low, high = around
        line = (width - low) / (high - low)
        plateau = (math.ceil(width / current) * current - low) / (high - low)
        place = line + THRESHOLD * (plateau - line)
        for at, weight in ((width, 1.0), (low, place - 1), (high, -place)):
            weights[at] = weights.get(at, 0.0) + weight
        seen_slower = seen_slower or points[width].ratio >= points[high].ratio
    return _Evidence(
        contrast=sum(weight * points[width].ratio for width, weight in weights.items()),
        deviation=math.sqrt(sum((weight * _deviation(points[width])) ** 2 for width, weight in weights.items())),
        seen_slower=seen_slower,
    )


def _deviation(point: ProbePoint) -> float:
    return (point.high - point.low) / INTERVAL_WIDTH


def _over_next(points: Mapping[int, ProbePoint], multiple: int) -> dict[int, float]:
    seen: dict[int, list[float]] = {}
    for width, point in points.items():
        divisor = max(m for m in MULTIPLES if width % m == 0)
        around = _neighbours(points, width, max(multiple, 2 * divisor)) if divisor < MULTIPLES[-1] else None
        if around is not None:
            seen.setdefault(divisor, []).append(point.ratio / points[around[1]].ratio)
    return {divisor: sum(costs) / len(costs) for divisor, costs in seen.items()}


def allowed_widths(
    group: Group, network: Network, granularity: Granularity | None, *, floor: float = 0.25
) -> tuple[int, ...]:
    """Return the widths that `group` may keep, ascending; the full width is always among them.

    They are the multiples of the least common multiple of what the structure requires and of what every layer
    of the network that reads or writes the group likes in that role; so a width that joins several groups is a
    multiple too. `floor` is the smallest share of channels kept.
    """
    if not 0 < floor <= 1:
        raise ValueError(f"floor must lie in (0, 1], got {floor}")
    multiple = group.multiple
    if granularity is not None:
        for layer in network.layers:
            inputs = () if layer.kind is LayerKind.DEPTHWISE else layer.inputs
            for role, parts in ((Role.OUTPUT, layer.outputs), (Role.INPUT, inputs)):
                for part in parts:
                    if part.group == group.name:
                        wanted = granularity.multiple(layer.kind, role) * part.per
                        multiple = math.lcm(multiple, wanted // math.gcd(wanted, part.features))
    least = math.ceil(floor * group.channels - 1e-9)
    first = math.ceil(least / multiple) * multiple
    return (*range(first, group.channels, multiple), group.channels)


def all_allowed_widths(
    network: Network, granularity: Granularity | None, *, floor: float = 0.25
) -> dict[str, tuple[int, ...]]:
    """Return `allowed_widths` of every group, by group name."""
    return {group.name: allowed_widths(group, network, granularity, floor=floor) for group in network.groups}
