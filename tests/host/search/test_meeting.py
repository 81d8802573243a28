import pytest

from host.search.meeting import Found, Tried, find_plan
from host.search.network import Plan
from host.search.solution import Infeasible

WINDOW = (0.97, 1.0)


class Device:
    """A device whose true latency is `bias` times what the model predicts, over widths 1 to 1000 in steps of
    `step`.
    """

    def __init__(self, bias: float, step: int = 1) -> None:
        self.bias, self.step, self.measured = bias, step, 0

    def propose(self, budget: float) -> Plan:
        width = int(budget * 1000) // self.step * self.step
        if width < 1:
            raise Infeasible("too fast", fastest_ratio=0.01, fastest_plan=Plan(kept={"a": 1}))
        return Plan(kept={"a": min(width, 1000)})

    def measure(self, plan: Plan) -> Tried:
        self.measured += 1
        ratio = plan.kept["a"] / 1000 * self.bias
        return Tried(plan=plan, ratio=ratio, low=ratio * 0.99, high=ratio * 1.01)

    def find(self, target: float, tries: int = 6) -> Found:
        return find_plan(self.propose, self.measure, target=target, window=WINDOW, tries=tries)


@pytest.mark.parametrize("bias", [0.8, 0.95, 1.0, 1.05, 1.3])
@pytest.mark.parametrize("target", [0.35, 0.5, 0.7])
def test_the_window_is_met_within_three_measurements(bias: float, target: float) -> None:
    device = Device(bias)
    found = device.find(target)
    assert found.reason is None
    assert 0.97 * target <= found.best.ratio <= target
    assert device.measured == len(found.tried) <= 3


def test_where_no_width_fits_in_between_the_slowest_plan_under_the_target_is_taken() -> None:
    found = Device(1.0, step=300).find(0.5)
    assert found.best.plan.kept == {"a": 300}
    assert found.reason is not None
    assert "0.600 of the target" in found.reason


def test_no_plan_is_measured_twice() -> None:
    device = Device(1.02, step=100)
    found = device.find(0.5)
    plans = [each.plan.key() for each in found.tried]
    assert len(plans) == len(set(plans)) == device.measured


def test_tries_bound_the_measurements() -> None:
    device = Device(1.7)
    found = device.find(0.5, tries=1)
    assert device.measured == 1
    assert found.reason is not None
    assert "in 1 tries" in found.reason


def test_a_target_that_no_plan_is_predicted_to_reach_is_the_callers() -> None:
    with pytest.raises(Infeasible):
        Device(1.0).find(0.0005)


class Scripted:
    """A device that answers the first plan with one ratio and the others with another."""

    def __init__(self, *ratios: float) -> None:
        self.ratios, self.proposed = list(ratios), 0

    def propose(self, budget: float) -> Plan:
        self.proposed += 1
        return Plan(kept={"a": self.proposed})

    def measure(self, plan: Plan) -> Tried:
        ratio = self.ratios[min(plan.kept["a"], len(self.ratios)) - 1]
        return Tried(plan=plan, ratio=ratio, low=ratio, high=ratio)


def test_a_narrower_window_goes_on_where_the_wide_one_would_stop() -> None:
    device = Scripted(0.499, 0.49)
    found = find_plan(device.propose, device.measure, target=0.5, window=(0.97, 0.993), tries=6)
    assert [each.ratio for each in found.tried] == [0.499, 0.49]
    assert found.reason is None
    assert found.best.ratio == 0.49


def test_without_a_plan_in_the_window_the_slowest_under_the_target_is_taken() -> None:
    device = Scripted(0.466, 0.499, 0.52, 0.45)
    found = find_plan(device.propose, device.measure, target=0.5, window=(0.97, 0.993), tries=4)
    assert found.best.ratio == 0.499
    assert found.reason is not None


def test_a_plan_just_under_the_target_is_taken_only_if_a_long_measurement_agrees() -> None:
    asked: list[float] = []

    def confirmed(truth: float) -> Found:
        device = Scripted(0.466, 0.499, 0.52, 0.45)

        def confirm(plan: Plan) -> Tried:
            asked.append(device.measure(plan).ratio)
            return Tried(plan=plan, ratio=truth, low=truth, high=truth)

        return find_plan(device.propose, device.measure, target=0.5, window=(0.97, 0.993), tries=4, confirm=confirm)

    assert confirmed(0.4985).best.ratio == 0.4985
    assert confirmed(0.501).best.ratio == 0.466
    assert asked == [0.499, 0.499]


def test_between_rounds_the_window_reaches_beyond_the_target() -> None:
    device = Scripted(0.53)
    found = find_plan(device.propose, device.measure, target=0.5, window=(0.9, 1.1), tries=1)
    assert found.best.ratio == 0.53
    assert found.reason is None
