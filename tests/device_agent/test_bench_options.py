"""What the options of `bench` mean, and that errors speak of them as they were typed."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from device_agent import quantities
from device_agent.bench_options import GROUPS, OPTIONS, in_option_words, option_words
from device_agent.bench_request import BenchOptions, one_format
from device_agent.cli import _parser
from device_agent.contract.artifact import ArtifactFormat
from device_agent.contract.errors import DeviceBusy, InvalidRequest
from device_agent.contract.settings import (
    CpuGroup,
    GraphOptimization,
    InputKind,
    MeasureRequest,
    Settings,
    Stopping,
)

ONE, TWO = "1" * 64, "2" * 64


def parsed(*arguments: str, models: int = 1) -> BenchOptions:
    values = vars(_parser().parse_args(["bench", *["m.onnx"] * models, *arguments]))
    return BenchOptions.of(values, models)


def test_nothing_given_is_the_contracts_defaults() -> None:
    request = parsed().request([ONE], runtime="onnxruntime")
    assert request == MeasureRequest(artifacts=(ONE,))


def test_every_option_reaches_the_request() -> None:
    options = parsed(
        "--provider", "CUDAExecutionProvider", "--provider-option", "device_id=1", "--provider-option", "a=b=c",
        "--graph-optimization", "extended", "--no-memory-arena", "--threads", "3", "--cpus", "0,2-3", "--nice", "-5",
        "--batch", "8", "--inputs", "zeros", "--warmup-runs", "7", "--warmup-time", "2", "--min-runs", "9",
        "--min-time", "800ms", "--max-time", "1min", "--precision", "0.5%", "--layers", "--cold-starts", "4",
        "--idle", "3.5", "--memory-limit", "2Gi", "--timeout", "1h",
    )  # fmt: skip
    assert options.request([ONE], runtime="acme") == MeasureRequest(
        artifacts=(ONE,),
        settings=Settings(
            runtime="acme",
            threads=3,
            provider="CUDAExecutionProvider",
            provider_options=(("a", "b=c"), ("device_id", "1")),
            cpus=(0, 2, 3),
            nice=-5,
            batch=8,
            graph_optimization=GraphOptimization.EXTENDED,
            memory_arena=False,
            inputs=InputKind.ZEROS,
        ),
        stopping=Stopping(warmup_runs=7, warmup_time_s=2, min_runs=9, min_time_s=0.8, max_time_s=60, precision=0.005),
        profile_nodes=True,
        cold_starts=4,
        idle_s=3.5,
        memory_limit_bytes=2 * 2**30,
        deadline_s=3600,
    )
    request = parsed("--cpu-group", "big", "--memory-arena", "--seed", "5").request([ONE], runtime="litert")
    assert (request.settings.cpu_group, request.settings.memory_arena, request.seed) == (CpuGroup.BIG, True, 5)
    assert parsed("--soak", "10min").request([ONE], runtime="litert").soak_s == 600
    assert parsed("--nodes").layers  # its former name


def test_the_table_and_the_values_have_the_same_names() -> None:
    assert sorted(option.name for option in OPTIONS) == sorted(field.name for field in fields(BenchOptions))
    assert {option.group for option in OPTIONS} == set(GROUPS)


def test_inputs_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(b"PK")
    options = parsed("--inputs", str(path))
    assert options.inputs_file == path
    settings = options.request([ONE], runtime="onnxruntime", inputs_sha256=TWO).settings
    assert (settings.inputs, settings.inputs_sha256) == (InputKind.DATA, TWO)


def test_one_time_alone_moves_the_other() -> None:
    longer = parsed("--min-time", "30").request([ONE], runtime="x").stopping
    assert (longer.min_time_s, longer.max_time_s) == (30, 30)
    shorter = parsed("--max-time", "0.3").request([ONE], runtime="x").stopping
    assert (shorter.min_time_s, shorter.max_time_s) == (0.3, 0.3)


@pytest.mark.parametrize(
    ("arguments", "models", "says"),
    [
        (("--min-time", "5", "--max-time", "1"), 1, "--min-time 5s is longer than --max-time 1s"),
        (("--cpus", "0", "--cpu-group", "big"), 1, "--cpus 0 and --cpu-group big exclude each other"),
        (("--provider-option", "a=1"), 1, "--provider-option needs --provider"),
        (
            ("--provider", "X", "--provider-option", "a=1", "--provider-option", "a=2"),
            1,
            "--provider-option a is given",
        ),
        (("--soak", "10s", "--max-time", "1"), 1, "--max-time has no effect with --soak"),
        (("--soak", "10s", "--layers"), 1, "--soak takes one model"),
        (("--soak", "10s"), 2, "--soak takes one model"),
        (("--soak", "8d"), None, "is not a duration"),
        (("--soak", "200h"), 1, "--soak 720000.0 is not in"),
        (("--difference", "3%"), 1, "--difference compares several models"),
        (("--seed", "1", "--inputs", "zeros"), 1, "--seed has no effect"),
        (("--idle", "700"), 1, "--idle 700.0 is not in 0..600"),
        (("--warmup-time", "2h"), 1, "--warmup-time"),
        (("--min-runs", "9999999"), 1, "--min-runs 9999999 may be 1000000 at most"),
        (("--inputs", "nowhere.npz"), None, "argument --inputs: there is no file nowhere.npz"),
        (("--inputs", "ones"), None, "argument --inputs: 'ones' is neither random, zeros nor an .npz file"),
        (("--nice", "40"), None, "argument --nice: 40 is not in -20..19"),
        (("--cpus", "3-1"), None, "argument --cpus: '3-1': a range goes from"),
        (("--graph-optimization", "most"), None, "argument --graph-optimization: 'most' is not one of disabled, basic"),
        (("--precision", "2"), None, "argument --precision: '2' is not a share"),
    ],
)
def test_errors_name_the_option(
    arguments: tuple[str, ...], models: int | None, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if models is None:  # said by the parser, which ends the command
        with pytest.raises(SystemExit):
            parsed(*arguments)
        assert says in capsys.readouterr().err
        return
    with pytest.raises(InvalidRequest) as caught:
        parsed(*arguments, models=models)
    assert says in str(caught.value)


def test_words_of_the_contract_become_options() -> None:
    assert option_words("cpus=(77,): this device lets the agent use [0, 1]") == (
        "--cpus 77: this device lets the agent use [0, 1]"
    )
    assert option_words("cpus=(1, 2) and nice=3") == "--cpus 1,2 and --nice 3"
    assert option_words("raise max_time_s or deadline_s") == "raise --max-time or --timeout"
    assert option_words("the batch of inputs; threads compute") == "the batch of inputs; threads compute"
    assert option_words("give --memory-limit") == "give --memory-limit"
    with pytest.raises(InvalidRequest, match=r"^--batch 0"), in_option_words():
        raise InvalidRequest("batch=0")
    with pytest.raises(DeviceBusy, match="batch=0"), in_option_words():
        raise DeviceBusy("batch=0")


def test_models_that_share_a_worker_have_one_format() -> None:
    assert one_format(["a.onnx", "b.ONNX"]) is ArtifactFormat.ONNX
    with pytest.raises(InvalidRequest, match=r"a\.onnx and c\.tflite need different runtimes"):
        one_format(["a.onnx", "b.onnx", "c.tflite"])
    with pytest.raises(InvalidRequest, match=r"x\.npz is no model file"):
        one_format(["x.npz"])


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (quantities.duration_s, "30s", 30),
        (quantities.duration_s, "1.5", 1.5),
        (quantities.duration_s, "250 ms", 0.25),
        (quantities.duration_s, "10min", 600),
        (quantities.size_bytes, "500M", 500_000_000),
        (quantities.size_bytes, "40MB", 40_000_000),
        (quantities.size_bytes, "2GiB", 2 * 2**30),
        (quantities.size_bytes, "123", 123),
        (quantities.share, "1%", 0.01),
        (quantities.share, "0.25", 0.25),
        (quantities.processors, "0,2-3", (0, 2, 3)),
        (quantities.name_value, "a=", ("a", "")),
        (quantities.whole(-20, 19), "-20", -20),
    ],
)
def test_quantities(read: Any, text: str, value: object) -> None:
    assert read(text) == pytest.approx(value) if isinstance(value, float) else read(text) == value


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (quantities.duration_s, "soon"),
        (quantities.duration_s, "-1"),
        (quantities.duration_s, "1e3"),
        (quantities.duration_s, ""),
        (quantities.size_bytes, "0"),
        (quantities.size_bytes, "9999999999G"),
        (quantities.size_bytes, "5%"),
        (quantities.share, "0"),
        (quantities.share, "100%"),
        (quantities.share, "nan"),
        (quantities.processors, "0-"),
        (quantities.processors, "0,,1"),
        (quantities.processors, "0,0"),
        (quantities.processors, "0-99999999999"),
        (quantities.name_value, "=1"),
        (quantities.name_value, "a"),
        (quantities.whole(0), "1.5"),
        (quantities.whole(0), "9" * 30),
    ],
)
def test_what_is_no_quantity(read: Any, text: str) -> None:
    with pytest.raises(InvalidRequest, match=r"is no|names a|goes from"):
        read(text)
