"""Layer prices from layer times of known truth: staircases, favourites of single shapes, other models' times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from host.search.features import PASSES, Shape
from host.search.network import Layer, LayerKind, Network
from host.search.observations import KEPT, MOST_KEPT, Observation, pooled
from host.search.prices import LayerPrices

WIDTHS = tuple(range(8, 136, 8))


def conv(name: str, pixels: int) -> Layer:
    return Layer(
        name=name, kind=LayerKind.CONV, inputs=(), input_fixed=0, outputs=(), output_fixed=0, kernel=9,
        input_pixels=pixels, output_pixels=pixels,
    )  # fmt: skip


def stairs_ns(layer: Layer, inward: int, outward: int, per_pass: int = 32) -> float:
    """A kernel that reads its whole input once per pass over `per_pass` output channels."""
    return 9 * layer.output_pixels * inward * (0.01 * outward + 0.4 * -(-outward // per_pass)) + 2000


def observed(
    layers: list[Layer],
    time: Callable[[Layer, int, int], float],
    *,
    count: int = 8,
    noise: float = 0.01,
    seed: int = 0,
    window: str = "probe",
) -> list[Observation]:
    """Each layer at `count` random widths, in as many windows."""
    rng = np.random.default_rng(seed)
    found = []
    for place in range(count):
        speed = np.exp(0.02 * rng.normal())
        for layer in layers:
            inward, outward = (int(rng.choice(WIDTHS)) for _ in range(2))
            taken = time(layer, inward, outward) * speed * np.exp(noise * rng.normal())
            found.append(
                Observation(
                    shape=Shape.of(layer),
                    inward=inward,
                    outward=outward,
                    charge=1.0,
                    time=float(taken),
                    window=f"{window} {place}",
                    layer=layer.name,
                )
            )
    return found


def fitted(layers: list[Layer], observations: list[Observation]) -> LayerPrices:
    return LayerPrices.fit(observations, {layer.name: Shape.of(layer) for layer in layers}, None)


def errors(layers: list[Layer], prices: LayerPrices, time: Callable[[Layer, int, int], float]) -> np.ndarray:
    asked = [(layer, inward, outward) for layer in layers for inward in WIDTHS[::3] for outward in WIDTHS]
    return np.abs(prices.times(asked) / [time(*each) for each in asked] - 1)


LAYERS = [conv(f"conv{number}", pixels) for number, pixels in enumerate((1024, 1024, 256, 256, 64, 64))]


def test_passes_of_a_kernel_are_found_and_priced() -> None:
    prices = fitted(LAYERS, observed(LAYERS, stairs_ns))
    assert prices.passes == {LayerKind.CONV: 32}
    assert np.median(errors(LAYERS, prices, stairs_ns)) < 0.02
    step = prices.times([(LAYERS[0], 64, width) for width in (24, 32, 40)])
    assert step[2] - step[1] > 2 * (step[1] - step[0])


def test_no_passes_are_seen_where_there_are_none() -> None:
    def smooth_ns(layer: Layer, inward: int, outward: int) -> float:
        return 0.01 * 9 * layer.output_pixels * inward * outward + 5 * layer.output_pixels * outward + 2000

    prices = fitted(LAYERS, observed(LAYERS, smooth_ns))
    assert prices.passes == {LayerKind.CONV: 0}
    assert np.median(errors(LAYERS, prices, smooth_ns)) < 0.01
    assert 32 in PASSES


def test_what_one_shape_has_of_its_own_is_known_where_it_was_seen() -> None:
    """Kernels that take 1.3 times as long on one size of image: layers of that size tell of each other."""

    def quirky_ns(layer: Layer, inward: int, outward: int) -> float:
        return (1.3 if layer.output_pixels == 256 else 1.0) * stairs_ns(layer, inward, outward)

    prices = fitted(LAYERS, observed(LAYERS, quirky_ns))
    assert np.median(errors([LAYERS[2]], prices, quirky_ns)) < 0.03
    assert np.median(errors([LAYERS[0]], prices, quirky_ns)) < 0.03


def test_a_disturbed_time_moves_its_layer_little() -> None:
    clean = observed(LAYERS, stairs_ns)
    hit = [replace(each, time=3 * each.time) if place == 7 else each for place, each in enumerate(clean)]
    asked = [(LAYERS[1], hit[7].inward, hit[7].outward)]
    assert fitted(LAYERS, hit).times(asked)[0] == pytest.approx(stairs_ns(*asked[0]), rel=0.1)


def test_a_layer_that_is_gone_takes_no_time() -> None:
    prices = fitted(LAYERS, observed(LAYERS, stairs_ns))
    assert prices.times([(LAYERS[0], 0, 64), (LAYERS[0], 64, 0)]).tolist() == [0.0, 0.0]


def test_times_of_another_model_help_whatever_the_speed_was_then() -> None:
    """A second model of other sizes, with few times of its own; the board ran at half the speed before."""
    before = pooled(observed(LAYERS, stairs_ns, count=12, seed=1), scale=2.0)
    kept = [Observation.from_dict(each.to_dict(), f"{KEPT} 0") for each in before]
    second = [conv(f"other{number}", pixels) for number, pixels in enumerate((1024, 576, 256, 144))]
    few = observed(second, stairs_ns, count=2, seed=2)
    alone = np.median(errors(second, fitted(second, few), stairs_ns))
    leaning = np.median(errors(second, fitted(second, [*few, *kept]), stairs_ns))
    assert leaning < 0.03
    assert leaning < alone / 2


def test_what_is_kept_is_averaged_and_bounded() -> None:
    many = observed(LAYERS, stairs_ns, count=400)
    kept = pooled(many, scale=1e6)
    assert len(kept) == MOST_KEPT
    assert len({(each.shape, each.inward, each.outward) for each in kept}) == MOST_KEPT
    assert max(each.count for each in kept) > 1
    again = [Observation.from_dict(each.to_dict(), each.window) for each in kept]
    assert again == kept
    with pytest.raises(ValueError, match="none"):
        Observation.from_dict({**kept[0].to_dict(), "time_ns": 0.0}, "kept")


def test_a_kind_that_was_never_seen_takes_no_time(make_mobile: Callable[..., Network]) -> None:
    network = make_mobile()
    shapes = {layer.name: Shape.of(layer) for layer in network.layers}
    prices = LayerPrices.fit(observed(LAYERS, stairs_ns), shapes, None)
    head = network.layers[-1]
    assert head.kind is LayerKind.LINEAR
    assert prices.times([(head, 64, 10)]).tolist() == [0.0]
