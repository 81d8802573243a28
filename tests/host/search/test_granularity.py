"""Granularity on synthetic staircases whose step is known."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from host.search.granularity import (
    MULTIPLES,
    Granularity,
    ProbePoint,
    Role,
    all_allowed_widths,
    allowed_widths,
    fast_multiples,
    probe_widths,
    questions,
)
from host.search.network import Group, Layer, LayerKind, Network, Part

KEY = (LayerKind.CONV, Role.OUTPUT)


def staircase(step: int, noise: float, seed: int, *, slow_off: int = 1, charge: float = 1.0) -> list[ProbePoint]:
    """Return points of a device that computes whole blocks of `step`, and charges for widths off
    `slow_off`.
    """
    rng = np.random.default_rng(seed)

    def latency(width: int) -> float:
        return (10 + math.ceil(width / step) * step) * (charge if width % slow_off else 1.0)

    points = []
    for width in probe_widths(64):
        ratio = latency(width) / latency(64) * math.exp(noise * min(max(rng.normal(), -2.5), 2.5))
        interval = math.exp(1.96 * noise)
        points.append(
            ProbePoint(kind=KEY[0], role=KEY[1], width=width, ratio=ratio, low=ratio / interval, high=ratio * interval)
        )
    return points


@pytest.mark.parametrize("step", [1, 2, 4, 8, 16])
def test_finds_the_step_under_noise(step: int) -> None:
    for seed in range(20):
        found = fast_multiples(staircase(step, 0.001, seed)).steps[KEY]
        assert found.multiple == step


@given(step=st.sampled_from([2, 4, 8, 16]), noise=st.floats(0.0005, 0.03), seed=st.integers(0, 10_000))
def test_never_a_multiple_seen_slower_than_the_next(step: int, noise: float, seed: int) -> None:
    """Whatever the noise: no allowed width was seen at or above the next larger allowed one of the coarser
    multiple.
    """
    points = {point.width: point.ratio for point in staircase(step, noise, seed)}
    granularity = fast_multiples(staircase(step, noise, seed))
    multiple = granularity.multiple(*KEY)
    if multiple < MULTIPLES[-1]:
        finest = [width for width in points if width % multiple == 0 and width % (2 * multiple)]
        for width in finest:
            larger = min(other for other in points if other > width and other % (2 * multiple) == 0)
            assert points[width] < points[larger]


def test_a_step_is_hardly_ever_taken_for_a_finer_one() -> None:
    for step in (2, 4, 8, 16):
        found = [fast_multiples(staircase(step, 0.01, seed)).multiple(*KEY) for seed in range(200)]
        assert sum(multiple < step for multiple in found) <= 6


def test_slow_kernels_off_a_multiple() -> None:
    """As ONNX Runtime on x86: latency rises with every channel, and widths off a multiple of 4 cost a fifth
    more.
    """
    granularity = fast_multiples(staircase(1, 0.003, 0, slow_off=4, charge=1.22))
    step = granularity.steps[KEY]
    assert (step.multiple, step.decided) == (4, True)
    assert 1.1 < step.over_next[2] < 1.25
    assert step.over_next[4] < 1
    assert "fast at multiples of 4" in granularity.summary()[0]
    assert "x at odd ones" in granularity.summary()[0]


def test_noise_leaves_the_larger_multiple_and_says_so() -> None:
    granularity = fast_multiples(staircase(1, 0.08, 1))
    step = granularity.steps[KEY]
    assert step.multiple > 1
    assert not step.decided
    assert "other work kept finer ones open" in granularity.summary()[0]
    quiet = fast_multiples(staircase(8, 0.001, 1))
    assert quiet.steps[KEY].decided
    assert "other work" not in quiet.summary()[0]


def test_what_noise_left_open_is_no_coarser_than_kernels_usually_are() -> None:
    """On a busy machine half of these were called multiples of 16 once: a stage of 16 channels then had no choice at all."""
    for seed in range(40):
        found = fast_multiples(staircase(8, 0.03, seed)).steps[KEY]
        assert found.multiple <= 8 or found.over_next[8] > 0.96, found


def test_too_few_widths_are_named() -> None:
    with pytest.raises(ValueError, match="conv output"):
        fast_multiples(staircase(8, 0.001, 1)[:-1])
    with pytest.raises(ValueError, match="multiple of 16"):
        probe_widths(40)


def test_survives_json() -> None:
    granularity = fast_multiples(staircase(8, 0.003, 4))
    assert Granularity.from_dict(json.loads(json.dumps(granularity.to_dict()))) == granularity


def _network(channels: int, part: Part, fixed_multiple: int = 1) -> Network:
    def layer(name: str, kind: LayerKind, inputs: tuple[Part, ...], output: str | None) -> Layer:
        return Layer(
            name=name,
            kind=kind,
            inputs=inputs,
            input_fixed=0 if inputs else 3,
            outputs=() if output is None else (Part(group=output),),
            output_fixed=channels if output is None else 0,
            kernel=9,
            input_pixels=4,
            output_pixels=4,
        )

    return Network(
        layers=(
            layer("first", LayerKind.CONV, (), "a"),
            layer("last", LayerKind.LINEAR, (part,), None),
        ),
        groups=(Group(name="a", channels=channels, layers=("first", "last"), multiple=fixed_multiple),),
    )


@pytest.mark.parametrize(
    ("channels", "multiple", "expected"),
    [
        (16, 8, (8, 16)),
        (64, 8, (16, 24, 32, 40, 48, 56, 64)),
        (20, 8, (8, 16, 20)),
        (8, 16, (8,)),
        (6, 1, (2, 3, 4, 5, 6)),
    ],
)
def test_allowed_widths(
    granularity: Callable[[int], Granularity], channels: int, multiple: int, expected: tuple[int, ...]
) -> None:
    network = _network(channels, Part(group="a"))
    assert allowed_widths(network.groups[0], network, granularity(multiple)) == expected


def test_allowed_widths_join_all_roles_and_the_structure() -> None:
    decided = fast_multiples(staircase(2, 0.0005, 0))
    steps = {**decided.steps, (LayerKind.LINEAR, Role.INPUT): fast_multiples(staircase(16, 0.001, 0)).steps[KEY]}
    both = Granularity(steps=steps)
    network = _network(32, Part(group="a"))
    assert allowed_widths(network.groups[0], network, both) == (16, 32)
    # After a flatten of 2 x 2, four channels make sixteen input features.
    network = _network(32, Part(group="a", features=4))
    assert allowed_widths(network.groups[0], network, both) == (8, 12, 16, 20, 24, 28, 32)
    network = _network(30, Part(group="a", features=4), fixed_multiple=3)
    assert allowed_widths(network.groups[0], network, both) == (12, 24, 30)
    assert all_allowed_widths(network, None) == {"a": (9, 12, 15, 18, 21, 24, 27, 30)}


def test_a_width_that_joins_groups_stays_on_the_multiples(granularity: Callable[[int], Granularity]) -> None:
    image = {"kernel": 9, "input_pixels": 64, "output_pixels": 64}
    parts = (Part(group="a"), Part(group="b"), Part(group="c", features=1, per=2))
    joined = Layer(name="joined", kind=LayerKind.CONV, inputs=(), input_fixed=3, outputs=parts, output_fixed=0, **image)
    groups = tuple(Group(name=name, channels=32, layers=("joined",), multiple=2) for name in "abc")
    network = Network(layers=(joined,), groups=groups)
    widths = all_allowed_widths(network, granularity(8))
    assert widths == {"a": (8, 16, 24, 32), "b": (8, 16, 24, 32), "c": (16, 32)}
    full = network.full_plan().kept
    assert joined.widths(full) == (3, 80)
    assert joined.widths({**full, "a": 8, "c": 16}) == (3, 48)
    assert granularity(8).fast(joined, 3, 48)
    assert not granularity(8).fast(joined, 3, 44)


@given(channels=st.integers(1, 200), multiple=st.sampled_from(MULTIPLES), floor=st.floats(0.01, 1.0))
def test_allowed_widths_always_hold_the_full_width(channels: int, multiple: int, floor: float) -> None:
    widths = allowed_widths(
        Group(name="a", channels=channels * multiple, layers=(), multiple=multiple),
        Network(layers=(), groups=()),
        None,
        floor=floor,
    )
    assert widths[-1] == channels * multiple
    assert list(widths) == sorted(set(widths))
    assert all(width % multiple == 0 and width >= floor * channels * multiple - 1e-6 for width in widths)


def test_questions_are_those_the_network_raises(make_mobile: Callable[..., Network]) -> None:
    assert set(questions(make_mobile(2))) == {
        (LayerKind.CONV, Role.OUTPUT),
        (LayerKind.POINTWISE, Role.INPUT),
        (LayerKind.POINTWISE, Role.OUTPUT),
        (LayerKind.DEPTHWISE, Role.OUTPUT),
        (LayerKind.LINEAR, Role.INPUT),
    }


def test_kinds_never_asked_fall_back(granularity: Callable[[int], Granularity]) -> None:
    asked = Granularity(steps={KEY: granularity(4).steps[KEY]})
    assert asked.multiple(LayerKind.GROUPED, Role.OUTPUT) == 4
    assert asked.multiple(LayerKind.LINEAR, Role.INPUT) == MULTIPLES[-1]


def test_a_width_that_no_plan_changes_is_never_off_the_multiples() -> None:
    granularity = fast_multiples(staircase(8, 0.0, 0))
    image = {"kernel": 9, "input_pixels": 64, "output_pixels": 64}
    stem = Layer(
        name="stem",
        kind=LayerKind.CONV,
        inputs=(),
        input_fixed=3,
        outputs=(Part(group="g"),),
        output_fixed=0,
        **image,
    )
    assert granularity.fast(stem, 3, 24)
    assert not granularity.fast(stem, 3, 25)
    last = Layer(
        name="last",
        kind=LayerKind.CONV,
        inputs=(Part(group="g"),),
        input_fixed=0,
        outputs=(),
        output_fixed=10,
        **image,
    )
    assert granularity.fast(last, 32, 10)
