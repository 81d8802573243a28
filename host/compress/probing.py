"""Asking the device which widths it likes, per kind of layer, with models of a few equal layers in balanced turns."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from host.compress.formats import Format
from host.compress.measuring import Measuring
from host.compress.observer import Observer
from host.search.granularity import Granularity, ProbePoint, Role, Step, fast_multiples, probe_widths, questions
from host.search.network import LayerKind, Network

#: The width around which the device is asked, and the image side: a layer of the middle of a small network.
REFERENCE = 64
SIDE = 16
#: Where noise forbids a decision, the question is asked once more for this many times as long.
LONGER = 4.0
KERNELS = {LayerKind.POINTWISE: 1, LayerKind.LINEAR: 1}


def find_granularity(
    network: Network, measuring: Measuring, observer: Observer, environment: dict[str, Any], files: Format
) -> Granularity:
    """Return which multiples the device runs fast, for the kinds of layers whose widths can change in `network`.

    `files` makes the models that are measured. Answers are kept in the store under `environment` (board, runtime, version,
    threads, governor, precision); what was decided is not asked again. Takes about five seconds of device time per kind and
    role, five times that where noise forbids a decision.
    """
    key, store = json.dumps(environment, sort_keys=True), measuring.store
    steps: dict[tuple[LayerKind, Role], Step] = {}
    asked = questions(network)
    for index, (kind, role) in enumerate(asked):
        observer.step(index, len(asked))
        fact = f"granularity {kind.value} {role.value}"
        known = store.get_device_fact(key, fact) if store is not None else None
        if known is None or not Granularity.from_dict(known).steps[kind, role].decided:
            known = _decide(kind, role, measuring, files).to_dict()
            if store is not None:
                store.put_device_fact(key, fact, known)
        steps.update(Granularity.from_dict(known).steps)
    return Granularity(steps=steps)


def _decide(kind: LayerKind, role: Role, measuring: Measuring, files: Format) -> Granularity:
    found = fast_multiples(_ask(kind, role, measuring, files))
    if not found.steps[kind, role].decided:
        found = fast_multiples(_ask(kind, role, measuring, files, longer=LONGER))
    return found


def _ask(kind: LayerKind, role: Role, measuring: Measuring, files: Format, longer: float = 1.0) -> list[ProbePoint]:
    widths = probe_widths(REFERENCE)
    with tempfile.TemporaryDirectory(prefix="boardfit-") as folder:
        paths = [
            files.layer_model(
                kind,
                width_in=REFERENCE if role is Role.OUTPUT and kind is not LayerKind.DEPTHWISE else width,
                width_out=width if role is Role.OUTPUT else REFERENCE,
                side=SIDE,
                kernel=KERNELS.get(kind, 3),
                path=Path(folder) / f"{kind.value}-{role.value}-{width}{files.suffix}",
            )
            for width in widths
        ]
        ratios = measuring.layers(paths, [path.stem for path in paths], longer=longer)
    points = [ProbePoint(kind=kind, role=role, width=widths[0], ratio=1.0, low=1.0, high=1.0)]
    for width, found in zip(widths[1:], ratios, strict=True):
        low, high = found.low or found.ratio / 2, found.high or found.ratio * 2  # no interval: as good as unknown
        points.append(ProbePoint(kind=kind, role=role, width=width, ratio=found.ratio, low=low, high=high))
    return points
