"""Which precision is taken: the rules on made-up measurements, trials on a device of known prices and one on a real agent.

Nothing here asserts on a time.
"""

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import jsonschema
import numpy as np
import onnx
import pytest

from device_agent.contract.errors import InvalidRequest, ModelRejected
from host.compress.final import measure_final
from host.compress.journal import Journal
from host.compress.measuring import Measuring
from host.compress.nodes import ExportedModel
from host.compress.observer import Observer
from host.compress.options import CompressOptions, LatencyTarget
from host.compress.pipeline import compress
from host.compress.precision import Choice, choose, choose_precision
from host.compress.precision_rule import Correct, accuracy_reason, final_reason
from host.compress.precision_trial import PrecisionTrial, entry_of
from host.compress.quantization import Scheme
from host.compress.session import Session
from host.compress.subject import Subject
from host.compress.variants import FILE_NAMES, VARIANTS_FOLDER, Variant
from host.datasets.dataset import Dataset3, Split
from host.fleet.devices import Device
from host.results.store import ResultStore
from tests.host.compress.test_pipeline import SCHEMA, SHAPE, Killed, measuring_on, options
from tests.host.compress.test_pipeline import device as device
from tests.host.compress.test_pipeline import real_device as real_device
from tests.host.compress.test_pipeline import store as store
from tests.host.compress.test_pipeline import subject as subject
from tests.support.priced_device import answer_granularity

U8S8, U8U8 = (
    Variant(precision="int8-static", scheme=Scheme(activations="U8", weights=weights), calibration="minmax")
    for weights in ("S8", "U8")
)
DYNAMIC = Variant(precision="int8-dynamic")
FLOAT = {"latency_ratio": 0.5, "peak_memory_bytes": 100}
KNOWN = Correct(count=1000, float32=900, baseline=910)


class MadeUpTrial:
    """Answers from tables by variant: time as a ratio to float32, right answers of 1000, the final measurement."""

    def __init__(
        self,
        folder: Path,
        ratios: Mapping[Variant, float],
        correct: Mapping[Variant, int],
        final: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder, self.ratios, self.correct = folder, ratios, correct
        self.variants = tuple(ratios)
        self.comparison = FLOAT
        self.exported = self._file("model.onnx")
        self.no_float16: str | None = "no kernels"
        self.asked: list[Variant] = []
        self._final = {"latency_ratio": 0.4, "peak_memory_bytes": 90, **(final or {})}

    def _file(self, name: str) -> ExportedModel:
        path = self.folder / name
        path.write_bytes(b"made up")
        return ExportedModel(
            path=path,
            input_name="input",
            output_name="output",
            sha256=name,
            size_bytes=50,
            layer_nodes={},
            layer_names={},
        )

    def entries(self) -> list[dict[str, Any]]:
        def decision(ratio: float) -> str:
            return "faster" if ratio < 0.99 else "no-difference" if ratio < 1.01 else "slower"

        return [
            {
                **entry_of(variant),
                "ratio_to_float": ratio,
                "ratio_interval": [ratio - 0.01, ratio + 0.01],
                "decision": decision(ratio),
                "size_bytes": 50,
            }
            for variant, ratio in self.ratios.items()
        ]

    def known(self) -> Correct:
        return KNOWN

    def most_accurate(self, variant: Variant) -> Variant:
        return variant

    def accuracy(self, variant: Variant) -> dict[str, Any]:
        self.asked.append(variant)
        return {"correct": self.correct[variant], "host_agreement": 0.99, "size_bytes": 50}

    def final(self, variant: Variant) -> tuple[ExportedModel, dict[str, Any]]:
        return self._file(FILE_NAMES[variant.precision][1]), self._final


def decided(trial: MadeUpTrial, **changes: Any) -> Choice:
    return choose(cast(PrecisionTrial, trial), options(**changes))


def reasons(choice: Choice) -> Sequence[str | None]:
    return [each["reason"] for each in choice.document["tried"]]


def test_the_fastest_that_is_faster_and_accurate_is_taken(tmp_path: Path) -> None:
    trial = MadeUpTrial(tmp_path, {U8S8: 0.9, U8U8: 0.8, DYNAMIC: 1.4}, {U8S8: 899, U8U8: 898})
    choice = decided(trial)
    assert (choice.precision, choice.artifact, choice.file.path.name) == ("int8-static", "onnx_int8", "model.int8.onnx")
    assert choice.comparison["latency_ratio"] == 0.4
    assert [each["taken"] for each in choice.document["tried"]] == [False, True, False, False]
    assert choice.document["tried"][1]["validation_accuracy"] == 0.898
    assert choice.document["float_validation_accuracy"] == 0.9
    assert reasons(choice) == [
        "the int8-static file that is taken is faster",
        None,
        "slower than float32 here",
        "no kernels",
    ]


def test_one_that_costs_too_much_accuracy_makes_room_for_the_next(tmp_path: Path) -> None:
    choice = decided(MadeUpTrial(tmp_path, {U8S8: 0.9, U8U8: 0.8}, {U8S8: 895, U8U8: 894}))
    assert [each["taken"] for each in choice.document["tried"]] == [True, False, False]
    assert "0.60 points below the float result, 0.5 are allowed" in str(reasons(choice)[1])


def test_slower_is_not_taken_and_its_price_is_told(tmp_path: Path) -> None:
    trial = MadeUpTrial(tmp_path, {U8S8: 1.18, U8U8: 1.3, DYNAMIC: 1.1}, {U8S8: 896})
    choice = decided(trial)
    assert (choice.precision, choice.artifact, choice.problem) == ("float32", None, None)
    assert choice.file is trial.exported
    assert choice.comparison is FLOAT
    assert trial.asked == [U8S8]
    assert choice.document["tried"][0]["validation_accuracy"] == 0.896
    assert reasons(choice)[0] == "slower than float32 here"


def test_what_the_final_turns_do_not_bear_out_is_not_taken(tmp_path: Path) -> None:
    choice = decided(MadeUpTrial(tmp_path, {U8S8: 0.9}, {U8S8: 900}, final={"latency_ratio": 0.5}))
    assert choice.precision == "float32"
    assert "no faster than float32" in str(reasons(choice)[0])
    assert not (tmp_path / "model.int8.onnx").exists()


def test_int8_that_was_asked_for_is_taken_with_a_warning(tmp_path: Path) -> None:
    trial = MadeUpTrial(tmp_path, {U8S8: 1.18, DYNAMIC: 1.3}, {U8S8: 899}, final={"latency_ratio": 0.6})
    trial.no_float16 = None
    choice = decided(trial, precision="int8")
    assert choice.precision == "int8-static"
    assert choice.document["reason"] == "asked for by --precision int8"
    assert "no faster than float32" in str(reasons(choice)[0])
    assert choice.problem is None


def test_int8_that_cannot_be_had_is_a_constraint_not_met(tmp_path: Path) -> None:
    trial = MadeUpTrial(tmp_path, {}, {})
    trial.no_float16 = None
    choice = decided(trial, precision="int8")
    assert choice.precision == "float32"
    assert "int8 cannot be had here" in str(choice.problem)


def test_an_allowed_drop_counts_from_the_baseline() -> None:
    assert accuracy_reason(895, KNOWN, None) is None
    assert accuracy_reason(894, KNOWN, None) is not None
    assert accuracy_reason(900, KNOWN, 0.01) is None
    assert "1.10 points below the baseline, 1 are allowed" in str(accuracy_reason(899, KNOWN, 0.01))
    assert accuracy_reason(905, KNOWN, None) is None  # better than float32


def test_budgets_that_float32_keeps_are_kept() -> None:
    final = {"latency_ratio": 0.4, "peak_memory_bytes": 120, "size_bytes": 50}
    float32 = {**FLOAT, "size_bytes": 60}
    assert final_reason(final, float32, {"peak_memory_bytes": None, "size_bytes": None}) is None
    assert final_reason(final, float32, {"peak_memory_bytes": 130, "size_bytes": 60}) is None
    assert "peak memory bytes are 120, 110" in str(final_reason(final, float32, {"peak_memory_bytes": 110}))
    assert final_reason(final, float32, {"peak_memory_bytes": 90}) is None  # float32 doesn't keep it either
    assert final_reason({**final, "peak_memory_bytes": None}, float32, {"peak_memory_bytes": 110}) is None


def test_a_precision_that_there_is_not() -> None:
    with pytest.raises(InvalidRequest, match="precision 'int4' is not one of auto, float32, int8"):
        CompressOptions(model="net", data="things", target=LatencyTarget(ratio=0.5), precision="int4")


def opened(subject: Subject, device: Device, store: ResultStore, out: Path, **changes: Any) -> Session:
    wanted = options(**{"precision": "auto", **changes})
    return Session(wanted, subject, measuring_on(device, store), out, Observer())


def test_an_agent_that_refuses_one_file_measures_the_others(
    subject: Subject, real_device: Device, store: ResultStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = opened(subject, real_device, store, tmp_path)
    exported = session.export(session.original, "model")
    trial = PrecisionTrial(session, session.original, exported, measure_final(session, exported))
    in_turns, outputs, jobs = Measuring.in_turns, Measuring.outputs, []

    def is_refused(model: ExportedModel) -> bool:
        return "u8u8" in model.path.name

    def refusing(self: Measuring, models: Sequence[ExportedModel], names: Sequence[str], **more: Any) -> Any:
        jobs.append(len(models))
        if any(is_refused(model) for model in models):
            raise ModelRejected("no such kernel")
        return in_turns(self, models, names, **more)

    def refusing_outputs(self: Measuring, model: ExportedModel, images: np.ndarray) -> Any:
        if is_refused(model):
            raise ModelRejected("no such kernel")
        return outputs(self, model, images)

    monkeypatch.setattr(Measuring, "in_turns", refusing)
    monkeypatch.setattr(Measuring, "outputs", refusing_outputs)
    trial.variants = (U8S8, U8U8, DYNAMIC)
    entries = trial.entries()
    assert trial.entries() == entries  # from the journal
    assert jobs == [3, 2, 2]  # two static ones, then the one that runs; the dynamic one is apart
    assert [each["ratio_to_float"] is None for each in entries] == [False, True, False]
    assert entries[1]["reason"] == "the device cannot run it: no such kernel"


def test_what_is_too_slow_for_a_block_of_turns_is_left_out(
    subject: Subject, device: Device, store: ResultStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = opened(subject, device, store, tmp_path)
    exported = session.export(session.original, "model")
    trial = PrecisionTrial(session, session.original, exported, {"latency_ns": {"p50": 1e6}, "latency_ratio": 0.5})
    monkeypatch.setattr(Measuring, "in_turns", lambda *_, **__: SimpleNamespace(runs=()))
    choice = choose(trial, session.options)
    assert choice.precision == "float32"
    assert "too slow to be measured" in str(reasons(choice)[0])


def test_a_trial_that_is_killed_again_and_again_repeats_nothing_and_never_sees_the_test_images(
    subject: Subject, device: Device, store: ResultStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poisoned = Dataset3(
        name="bars",
        num_classes=3,
        train=subject.data.train,
        validation=subject.data.validation,
        test=Split(images=np.full((3, *SHAPE), np.nan, dtype=np.float32), labels=np.arange(3, dtype=np.int64)),
        normalisation=None,
    )
    subject = Subject(model=subject.model, data=poisoned)
    monkeypatch.setattr("host.compress.variants.CALIBRATIONS", ("minmax", "percentile"))
    first = opened(subject, device, store, tmp_path, precision="int8")
    exported = first.export(first.original, "model")
    comparison = first.once("final", lambda: measure_final(first, exported))

    append, choice, starts = Journal._append, None, 0

    def append_and_die(journal: Journal, entry: dict[str, Any]) -> None:
        append(journal, entry)
        raise Killed

    monkeypatch.setattr(Journal, "_append", append_and_die)
    while choice is None:
        starts += 1
        session = opened(subject, device, store, tmp_path, precision="int8")
        with contextlib.suppress(Killed):
            choice = choose_precision(session, session.original, exported, comparison)
    keys = [json.loads(line)["key"] for line in (tmp_path / "journal.jsonl").read_text().splitlines()[1:]]
    assert len(keys) == len(set(keys)) == starts

    assert choice.precision.startswith("int8")
    assert any(each["validation_accuracy"] for each in choice.document["tried"])
    numbers = [
        onnx.numpy_helper.to_array(each)
        for each in onnx.load(str(choice.file.path)).graph.initializer
        if each.data_type == onnx.TensorProto.FLOAT
    ]
    assert numbers
    assert all(np.isfinite(each).all() for each in numbers)


def test_a_compression_to_int8_ends_in_a_record_and_repeats_nothing(
    subject: Subject, device: Device, store: ResultStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    wanted = options(precision="int8", epochs=1, target=LatencyTarget(ratio=0.75))
    state = {name: value.clone() for name, value in subject.model.module.state_dict().items()}
    measuring = measuring_on(device, store)
    answer_granularity(store, device, measuring.settings)
    record = compress(wanted, subject, measuring, out=out)
    jsonschema.validate(json.loads(json.dumps(record)), SCHEMA)
    assert record["pricing"]["precision"] == record["precision"]["chosen"]  # planned in it, though it is slower here
    assert [each["reason"] for each in record["pricing"]["tried"] if each["taken"]] == ["slower than float32 here"]
    taken = [each for each in record["precision"]["tried"] if each["taken"]]
    assert [each["precision"] for each in taken] == [record["precision"]["chosen"]]
    assert taken[0]["precision"].startswith("int8")
    assert 0 <= taken[0]["validation_accuracy"] <= 1
    assert taken[0]["host_agreement"] == 1  # the device is this host
    assert record["result"]["size_bytes"] == taken[0]["size_bytes"] == (out / "model.int8.onnx").stat().st_size
    assert record["result"]["test_images"] == 90
    assert record["artifacts"]["onnx"] == str(out / "model.onnx")
    assert record["artifacts"]["onnx_int8"] == str(out / "model.int8.onnx")
    assert not (out / VARIANTS_FOLDER).exists()

    def operators(name: str) -> set[str]:
        return {node.op_type for node in onnx.load(record["artifacts"][name]).graph.node}

    assert operators("onnx_int8") & {"QuantizeLinear", "DynamicQuantizeLinear"}
    assert not operators("onnx") & {"QuantizeLinear", "DynamicQuantizeLinear"}

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a finished measurement ran again")

    monkeypatch.setattr(device.client, "measure", refuse)
    monkeypatch.setattr("host.compress.device_accuracy.answers", refuse)
    monkeypatch.setattr("host.compress.precision_trial.answers", refuse)
    subject.model.module.load_state_dict(state)
    assert compress(wanted, subject, measuring_on(device, store), out=out) == json.loads(json.dumps(record))
