"""The energy row of `host bench`: what is preferred, how sure it is, and why there is none."""

from __future__ import annotations

from typing import Any

from benchmarks.power_trace import PowerTrace, record
from device_agent.contract.device import Channel, Quantity
from device_agent.contract.energy import energy_document
from host.cli.bench_view import _energy


def document(*, rests: tuple[bool, bool] = (True, True), silent: bool = False) -> dict[str, Any]:
    trace = PowerTrace(idle_w=2.0, drift_w_per_s=0.0, load_w=3.0, start_s=2.0, end_s=12.0, rise_s=1e-9)
    samples = [(0.03 + 0.05 * number, trace.power_w(0.03 + 0.05 * number)) for number in range(279)]
    channels = [
        Channel(name=name, quantity=Quantity.POWER, site="board", source="/sys", meter=name, note=note)
        for name, note in (("supply", None), ("hat", "what is wired through its shunt"))
    ]
    found = {} if silent else {channel.name: samples for channel in channels}
    return energy_document(record(trace, found, runs=100, rests=rests), channels)


def test_an_estimate_with_its_uncertainty_and_the_other_meter() -> None:
    """What is left of the uncertainty is a step of 3 W somewhere in 10 ms, in 100 runs: 3 * 0.005 / sqrt(3) * 1.96 / 100 J."""
    assert (
        _energy(document()) == "300.00 ± 0.17 mJ net of 2.00 W idle, 500.00 ± 0.17 mJ gross; supply; also seen by hat"
    )


def test_without_a_net_figure() -> None:
    row = _energy(document(rests=(False, False)))
    assert row.startswith("500.00 ± 0.17 mJ gross, no net figure: the worker did not rest before the timed part")


def test_without_any() -> None:
    assert _energy(document(silent=True)) == "– (supply: every read of supply failed; hat: every read of hat failed)"
