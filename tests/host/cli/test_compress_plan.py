"""`host compress --plan`: what is said before anything is loaded or measured."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

MODEL = ("compress", "mobilenet_v2", "--device", "local", "--data", "fashion-mnist")


def test_a_target_is_asked_for_unless_a_plan_has_one(host: Callable[..., Any]) -> None:
    failed = host(*MODEL)
    assert failed.code == 2
    assert "--target-latency" in failed.err


def test_a_file_that_is_no_plan_is_named(host: Callable[..., Any], tmp_path: Path) -> None:
    plan = tmp_path / "plan.json"
    plan.write_text('{"schema": 1}')
    failed = host(*MODEL, "--plan", str(plan))
    assert failed.code == 2
    assert f"{plan} is no plan of host compress" in failed.err
    assert host(*MODEL, "--plan", str(tmp_path / "none.json")).code == 2
