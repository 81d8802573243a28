"""Sentences are read from the record: what it does not hold is not said."""

import json
from pathlib import Path
from typing import Any

import pytest

from host.compress.explain import explain

FIXTURE = Path(__file__).parents[2] / "fixtures/records/compress.json"


def side(width_in: int, width_out: int, share: float | None) -> dict[str, Any]:
    return {"input_width": width_in, "output_width": width_out, "macs": 1, "share": share, "modelled_share": 0.5}


@pytest.fixture
def record() -> dict[str, Any]:
    """Two layers tied by group `a`, of which 16 of 32 channels are kept; `b` keeps all of its 8."""
    document: dict[str, Any] = json.loads(FIXTURE.read_text())
    document.update(
        target={"latency_ratio": 0.5, "latency_ns": None, "percentile": 50},
        chosen="latency",
        budgets={"max_size_bytes": 1_000_000, "max_memory_bytes": None, "max_accuracy_drop": None},
        plan={"a": {"channels": 32, "kept": 16}, "b": {"channels": 8, "kept": 8}},
        losses_round="round 2 of 2",
        candidates=[
            {"round": "round 2 of 2", "method": "latency", "accuracy": 0.9, "measured_ratio": 0.49, "kept": {}, "taken": True},
            {"round": "round 2 of 2", "method": "uniform", "accuracy": 0.8, "measured_ratio": 0.48, "kept": {}, "taken": False},
        ],
        reason=None,
        left_alone=[{"layer": "head", "reason": "it produces the network's output"}],
        granularity={
            "steps": [
                {
                    "kind": "depthwise",
                    "role": "output",
                    "multiple": 8,
                    "decided": True,
                    "over_next": {"1": 6.5, "4": 1.05, "8": 0.9},
                },
                {"kind": "conv", "role": "input", "multiple": 4, "decided": True, "over_next": {"1": 1.2}},
            ]
        },
        layers=[
            {
                "name": "first", "kind": "depthwise", "input_groups": ["a"], "output_groups": ["a"],
                "baseline": side(32, 32, 0.25), "result": side(16, 16, 0.125),
            },
            {
                "name": "second", "kind": "conv", "input_groups": ["a"], "output_groups": ["b"],
                "baseline": side(32, 8, 0.5), "result": side(16, 8, 0.25),
            },
        ],
        groups=[
            {
                "name": "a", "channels": 32, "kept": 16, "multiple": 1, "layers": ["first"], "allowed": [8, 16, 24, 32],
                "losses": {"8": 0.3, "16": 0.1, "24": 0.0}, "latency_ratios": {"8": 0.4, "16": 0.49, "24": 0.55, "32": 0.6},
            },
            {
                "name": "b", "channels": 8, "kept": 8, "multiple": 1, "layers": ["second"], "allowed": [8],
                "losses": {"8": 0.0}, "latency_ratios": {"8": 0.49},
            },
        ],
    )  # fmt: skip
    document["result"].update(latency_ratio=0.49, size_bytes=200_000)
    return document


def test_a_group_is_explained_by_its_shares_prices_and_losses(record: dict[str, Any]) -> None:
    found = explain(record)
    assert found.groups[0].text == (
        "keeps 16 of 32 channels; the 2 layers that read or write them take 75.0 % of the baseline's latency on this device "
        "(node times) and 37.5 % of it after; 4 widths were open, 8 to 32 in steps of 8: depthwise output widths are fast in "
        "multiples of 8 on this device (off them up to 6.500x of the next fast one); 8 channels fewer would save 9.00 % of the "
        "baseline's latency and cost 0.200 nats of calibration loss, 0.0222 nats per percent; 8 more would cost 6.00 % and win "
        "back 0.100 nats, 0.0167 nats per percent"
    )
    assert found.groups[1].text == (
        "keeps all 8 channels; the layer takes 50.0 % of the baseline's latency on this device (node times) and 25.0 % of it "
        "after; no narrower width is allowed"
    )
    assert found.left_alone[0].text == "it produces the network's output"


def test_the_budgets_say_which_of_them_binds(record: dict[str, Any]) -> None:
    first, second, third, fourth = explain(record).budgets
    assert (
        first
        == "the latency budget binds: 0.500x of the baseline's was asked for, the result takes 0.490x, 98.0 % of it"
    )
    assert second == "the size budget does not bind: 1.00 MB are allowed, the result takes 200 kB, 20.0 % of it"
    assert third.startswith(
        "the latency plan was taken: 90.0 % on validation images before fine-tuning, against 80.0 % of the"
    )
    assert fourth.startswith("the cheapest step that is left would narrow a: 0.0222 nats")
    record["energy"] = {"baseline_j": 1.0, "result_j": 0.6, "ratio": 0.6, "budget_ratio": 0.8}
    assert explain(record).budgets[2] == (
        "the energy budget does not bind: 0.800x of the baseline's is allowed, the result takes 0.600x, 75.0 % of it"
    )
    record["result"]["latency_ratio"], record["reason"] = 0.4, "no other width fits"
    assert explain(record).budgets[0].startswith("the latency budget is not used up: 0.500x")
    assert explain(record).budgets[0].endswith("80.0 % of it; no other width fits")


def test_nothing_is_said_of_what_is_not_known(record: dict[str, Any]) -> None:
    group = record["groups"][0]
    group["losses"] = None
    group["latency_ratios"]["8"] = 0.5
    text = explain(record).groups[0].text
    assert "nats" not in text
    assert "8 channels fewer would not be faster here" in text
    group["latency_ratios"] = None
    record["granularity"] = None
    for layer in record["layers"]:
        layer["baseline"]["share"] = layer["result"]["share"] = None
    text = explain(record).groups[0].text
    assert text == (
        "keeps 16 of 32 channels; the 2 layers that read or write them take 100.0 % of the baseline's latency on this device "
        "(latency model) and 100.0 % of it after; 4 widths were open, 8 to 32 in steps of 8"
    )


def test_a_dropped_branch_is_called_so(record: dict[str, Any]) -> None:
    group = record["groups"][0]
    group.update(allowed=[0, *group["allowed"]])
    group["losses"]["0"], group["latency_ratios"]["0"] = 0.5, 0.3
    assert "4 widths were open besides dropping the branch, 8 to 32 in steps of 8" in explain(record).groups[0].text
    group["kept"] = 8
    assert (
        "dropping the branch would save 10.00 % of the baseline's latency and cost 0.200 nats"
        in explain(record).groups[0].text
    )
    group["kept"] = 0
    text = explain(record).groups[0].text
    assert text.startswith("is gone with its residual branch, all 32 channels;")
    assert "8 more would cost 10.00 % and win back 0.200 nats" in text


def test_plans_that_nobody_weighed_are_called_so(record: dict[str, Any]) -> None:
    record["chosen"] = "uniform"
    record["candidates"][0]["taken"], record["candidates"][1]["taken"] = False, True
    assert any("the uniform plan was taken: 80.0 %" in line for line in explain(record).budgets)
    assert any("no group's width was weighed" in line for line in explain(record).budgets)
    record["chosen"] = "plan"
    assert any("the plan was given" in line for line in explain(record).budgets)


def test_a_record_of_the_first_version_says_the_widths(record: dict[str, Any]) -> None:
    del record["groups"]
    found = explain(record)
    assert [each.text for each in found.groups] == ["keeps 16 of 32 channels", "keeps all 8 channels"]
    assert "not why" in found.budgets[-1]
    assert found.lines()[-1] == "head was left alone: it produces the network's output"
