"""The errors of `host compress` and its table; tests/host/compress/test_pipeline.py runs whole compressions."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import numpy as np
import pytest

from host.cli.compress_view import show
from host.cli.quantities import fraction, latency_target, size_bytes
from host.compress.options import CompressOptions, LatencyTarget
from host.compress.record import unmet

FASHION = ("--data", "fashion-mnist")
HALF = ("--target-latency", "0.5x")
LOCAL = ("--device", "local")


@pytest.mark.parametrize(
    ("text", "ratio", "latency_ns"),
    [("0.5x", 0.5, None), (".35x", 0.35, None), ("30ms", None, 30e6), ("0.03 s", None, 30e6), ("800us", None, 800e3)],
)
def test_latency_targets(text: str, ratio: float | None, latency_ns: float | None) -> None:
    target = latency_target(text)
    assert target.ratio == ratio
    assert target.latency_ns == (None if latency_ns is None else pytest.approx(latency_ns))


@pytest.mark.parametrize("text", ["fast", "30", "1x", "0x", "-3ms", "30 parsec", "0.5xx", ""])
def test_what_is_no_latency_target(text: str) -> None:
    with pytest.raises(click.BadParameter):
        latency_target(text)


def test_sizes_and_shares() -> None:
    assert [size_bytes(text) for text in ("900kB", "2MB", "40MiB", "12")] == [900_000, 2_000_000, 41_943_040, 12]
    assert [fraction(text) for text in ("1%", "0.25", "100%")] == [0.01, 0.25, 1.0]
    for wrong in ("2 XB", "many", "9" * 400):
        with pytest.raises(click.BadParameter):
            size_bytes(wrong)
    for wrong in ("101%", "2", "-1%", "1 MB"):
        with pytest.raises(click.BadParameter):
            fraction(wrong)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("mobilenet_v2", *LOCAL, *FASHION, "--target-latency", "fast"), 2, "0.5x"),
        (("mobilenet_v2", *LOCAL, *FASHION), 2, "--target-latency"),
        (("mobilenet_v9", *LOCAL, *FASHION, *HALF), 1, "mobilenet_v2"),
        (("resnet20", *LOCAL, *FASHION, *HALF), 1, "host train resnet20"),
        (("mobilenet_v2", *LOCAL, "--data", "fasion-mnist", *HALF), 1, "fashion-mnist"),
        (("model.onnx", *LOCAL, *FASHION, *HALF), 1, "host bench"),
        (("mobilenet_v2", "--device", "attic", *FASHION, *HALF), 2, "host devices add"),
        (("mobilenet_v2", *LOCAL, *FASHION, *HALF, "--epochs", "1", "--rounds", "2"), 2, "rounds=2"),
        (("no.such:factory", *LOCAL, *FASHION, *HALF), 1, "no.such"),
    ],
)
def test_errors_say_what_to_do(host: Callable[..., Any], arguments: tuple[str, ...], code: int, said: str) -> None:
    ran = host("compress", *arguments)
    assert ran.code == code
    assert ran.out == ""
    assert said in ran.err
    assert "Traceback" not in ran.err


def test_data_that_do_not_fit_the_checkpoint(host: Callable[..., Any], tmp_path: Path) -> None:
    images = np.zeros((20, 24, 24, 3), dtype=np.uint8)
    labels = np.arange(20) % 2
    np.savez(tmp_path / "data.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    weights = Path(__file__).parents[3] / "host/zoo/weights/mobilenet_v2-w0.5-fashion-mnist.pt"
    data = ("--data", f"npz:{tmp_path / 'data.npz'}")
    ran = host("compress", "mobilenet_v2", *LOCAL, *data, *HALF, "--checkpoint", str(weights))
    assert ran.code == 1
    assert "in_channels" in ran.err or "num_classes" in ran.err


def side(accuracy: float, latency: float, scale: float) -> dict[str, Any]:
    return {
        "accuracy": accuracy,
        "test_images": 2000,
        "latency_ns": {"p50": latency, "p90": latency * 1.1, "p99": latency * 1.2, "min": latency, "mean": latency},
        "peak_memory_bytes": None,
        "size_bytes": int(2e6 * scale),
        "parameters": int(5e5 * scale),
        "macs": int(2e7 * scale),
        "verdict": [{"code": "contended", "value": 0.3, "unit": "share", "threshold": 0.1, "hint": "stop other work"}],
    }


def record(**changes: Any) -> dict[str, Any]:
    result = {**side(0.91, 2.4e6, 0.4), "latency_ratio": 0.492, "latency_ratio_interval": [0.49, 0.494]}
    return {
        "model": "net",
        "data": "things",
        "device": {"name": "attic", "board": "Some board", "cpu": "Cortex"},
        "runtime": {"name": "onnxruntime", "version": "1.2"},
        "threads": 1,
        "baseline": side(0.915, 4.9e6, 1),
        "result": result,
        "target": {"latency_ratio": 0.5, "latency_ns": None, "percentile": 50},
        "met": True,
        "reason": None,
        "device_seconds": 75.0,
        "precision": {"chosen": "float32", "reason": None, "float_validation_accuracy": None, "tried": []},
        "artifacts": {"onnx": "/out/model.onnx"},
        **changes,
    }


def tried(**changes: Any) -> dict[str, Any]:
    return {
        "precision": "int8-static",
        "types": "U8U8",
        "calibration": "minmax",
        "taken": False,
        "ratio_to_float": 1.18,
        "ratio_interval": [1.17, 1.19],
        "validation_accuracy": 0.891,
        "reason": "slower than float32 here",
        **changes,
    }


@pytest.mark.parametrize(
    ("pricing", "line"),
    [
        (
            {"precision": "int8-static", "reason": None, "macs_at_target": {"float32": 10, "int8-static": 13}},
            "planned in int8-static, in which a uniform plan of the target's latency keeps 1.300x of float32's MACs\n",
        ),
        (
            {"precision": "float32", "reason": "int8 is slower", "macs_at_target": None},
            "planned in float32: int8 is slower\n",
        ),
        ({"precision": "int8-static", "reason": None, "macs_at_target": None}, "planned in int8-static\n"),
    ],
)
def test_what_the_plan_was_made_in(capsys: pytest.CaptureFixture[str], pricing: dict[str, Any], line: str) -> None:
    show(record(pricing={**pricing, "tried": [tried()]}))
    assert line in capsys.readouterr().out
    show(record(pricing={**pricing, "tried": []}))  # asked for by option: nothing new
    assert "planned in" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "asked", "expected"),
    [
        (
            {},
            None,
            "int8-static (U8U8, minmax) would take 1.180x (1.170 - 1.190) of the float32 time here and cost 0.40 points on "
            "validation images: not taken, slower than float32 here\n",
        ),
        (
            {
                "taken": True,
                "ratio_to_float": 0.8,
                "ratio_interval": None,
                "validation_accuracy": 0.897,
                "reason": None,
            },
            None,
            "int8-static (U8U8, minmax) taken: 0.800x of the float32 time here, gains 0.20 points on validation images\n",
        ),
        (
            {"taken": True},
            "asked for by --precision int8",
            "warning: slower than float32 here; asked for by --precision int8\n",
        ),
    ],
)
def test_the_table_ends_with_what_a_lower_precision_would_cost(
    changes: dict[str, Any], asked: str | None, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = [tried(ratio_to_float=None, validation_accuracy=None), tried(**changes)]
    precision = {"chosen": "float32", "reason": asked, "float_validation_accuracy": 0.895, "tried": entries}
    show(record(precision=precision))
    assert expected in capsys.readouterr().out


def test_the_table_has_before_after_and_the_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    show(record())
    shown = capsys.readouterr().out
    for expected in (
        "91.50 %",
        "91.00 %",
        "-0.50 points",
        "4.90 ms",
        "2.40 ms",
        "0.492x (0.490 - 0.494)",
        "20.0 M",
        "8.00 M",
    ):
        assert expected in shown
    assert "met: target 0.500x" in shown
    assert "contended (0.300 share): stop other work" in shown
    assert "peak memory above the runtime" in shown
    assert "–" in shown  # no peak memory was reported: a dash, not a zero


def test_a_target_that_is_not_met_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    show(record(met=False, reason="latency is 1.040 of the target (no other allowed width)"))
    assert "not met: target 0.500x of the baseline's latency; latency is 1.040 of the target" in capsys.readouterr().out


def test_square_brackets_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    show(record(data="npz:[/a]", met=False, reason="layer [/b] is slow", artifacts={"onnx": "/[/c]/model.onnx"}))
    shown = capsys.readouterr().out
    assert "npz:[/a]" in shown
    assert "layer [/b] is slow" in shown
    assert "/[/c]/model.onnx" in shown


def test_a_drop_of_exactly_what_is_allowed_is_allowed() -> None:
    session: Any = SimpleNamespace(
        options=CompressOptions(
            model="net", data="things", target=LatencyTarget(ratio=0.5), max_accuracy_drop=0.01, max_memory_bytes=10
        )
    )
    sides = {
        "baseline": {"accuracy": 0.915, "correct": 1830, "test_images": 2000},
        "result": {"accuracy": 0.905, "correct": 1810, "test_images": 2000, "peak_memory_bytes": 9},
    }
    assert unmet(session, sides, 0.5, 0.5, None) == []
    sides["result"] = {"accuracy": 0.9045, "correct": 1809, "test_images": 2000, "peak_memory_bytes": 11}
    memory, accuracy = unmet(session, sides, 0.5, 0.5, None)
    assert "peak memory is 11 bytes, 10 are allowed" in memory
    assert "accuracy dropped" in accuracy


def test_ctrl_c_says_how_to_go_on(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "host", "compress", "mobilenet_v2", *LOCAL, *FASHION, *HALF, "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not (out / "baseline.onnx").exists():
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    shown, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert shown == ""
    assert f"finished steps are kept in {out}; the same command goes on after them" in err
    assert "Traceback" not in err
