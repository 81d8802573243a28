import pytest

from device_agent.contract.errors import InvalidRequest
from host.compress.options import CompressOptions, LatencyTarget
from host.compress.pipeline import split_epochs


def options(**changes: object) -> CompressOptions:
    values = {"model": "m", "data": "d", "target": LatencyTarget(ratio=0.5), **changes}
    return CompressOptions(**values)  # type: ignore[arg-type]


def test_a_time_becomes_a_share_of_the_baseline() -> None:
    assert LatencyTarget(latency_ns=5e6).of(10e6) == 0.5
    assert LatencyTarget(ratio=0.4).of(10e6) == 0.4


@pytest.mark.parametrize(
    "wrong", [{}, {"ratio": 0.5, "latency_ns": 1.0}, {"ratio": 1.0}, {"ratio": 0.0}, {"latency_ns": -1.0}]
)
def test_a_target_is_one_sensible_number(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidRequest):
        LatencyTarget(**wrong)


@pytest.mark.parametrize(
    ("ratio", "rounds"), [(0.9, 1), (0.5, 1), (0.45, 1), (0.44, 2), (0.35, 2), (0.21, 2), (0.2, 3)]
)
def test_harder_targets_take_more_rounds(ratio: float, rounds: int) -> None:
    assert options().rounds_for(ratio) == rounds


def test_no_more_rounds_than_epochs() -> None:
    assert options(epochs=2).rounds_for(0.1) == 2
    with pytest.raises(InvalidRequest, match="rounds=3"):
        options(epochs=2, rounds=3)


@pytest.mark.parametrize("wrong", [{"method": "magic"}, {"epochs": 0}, {"learning_rate": 0}, {"max_size_bytes": -1}])
def test_nonsense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest, match=next(iter(wrong))):
        options(**wrong)


@pytest.mark.parametrize(("epochs", "rounds"), [(10, 1), (10, 2), (10, 3), (2, 2), (3, 3), (7, 3)])
def test_epochs_are_all_used_and_each_round_has_one(epochs: int, rounds: int) -> None:
    split = split_epochs(epochs, rounds)
    assert len(split) == rounds
    assert sum(split) == epochs
    assert min(split) >= 1
    assert max(split) == split[-1]
