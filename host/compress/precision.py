"""Precision as part of the choice: int8 or float16 where the device measures it faster and the accuracy holds.

Candidates run in turns with the float result in one job. Their accuracy is what the *device* answers: without a dot-product
instruction the same int8 file can saturate on one processor and be exact on the next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from device_agent.contract.decision import Decision, DecisionCode, decide_all
from device_agent.contract.errors import (
    ModelRejected,
    RuntimeUnavailable,
    WorkerCrashed,
    WorkerOutOfMemory,
    WorkerTimedOut,
)
from host.compress.device_accuracy import answers, answers_on_host
from host.compress.evaluation import evaluate
from host.compress.final import measure_final
from host.compress.nodes import ExportedModel, describe
from host.compress.precision_rule import Correct, accuracy_reason, final_reason, latency_reason
from host.compress.quantization import QuantizationFailed, calibration_images, float16_reason
from host.compress.session import Session
from host.compress.variants import FLOAT16, FLOAT32, INT8_STATIC, VARIANTS_FOLDER, Variant, VariantFiles, variants_for
from host.datasets.dataset import Split
from host.files import write_whole

#: Device time for the accuracy of one candidate; images are left out beyond it, but never below this count.
EVALUATION_S, FEWEST_IMAGES = 30.0, 256
#: Validation images on which calibrations are told apart.
SELECTION_IMAGES = 512

_FILE_NAMES = {FLOAT16: ("onnx_float16", "model.fp16.onnx")}
_INT8_FILE = ("onnx_int8", "model.int8.onnx")
#: The device cannot run the file; the others go on without it.
_REFUSALS = (ModelRejected, RuntimeUnavailable, WorkerCrashed, WorkerOutOfMemory, WorkerTimedOut)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What is taken: its precision, file and final measurement, and the document for the record.

    `artifact` is the record's name for the file, None for float32. `problem` says why what was asked for could not be had.
    """

    precision: str
    file: ExportedModel
    comparison: Mapping[str, Any]
    document: Mapping[str, Any]
    artifact: str | None = None
    problem: str | None = None


def choose_precision(
    session: Session, module: nn.Module, exported: ExportedModel, comparison: Mapping[str, Any]
) -> Choice:
    """Try lower precisions of the trained `module`, exported as float32 and measured as `comparison` says; take one or none.

    Every step that takes device time is in the journal.
    """
    wanted = session.options.precision
    if wanted == FLOAT32:
        document = {**_document(FLOAT32, [], None), "reason": "asked for by --precision float32"}
        return Choice(precision=FLOAT32, file=exported, comparison=comparison, document=document)
    return _Trial(session, module, exported, comparison, forced=wanted == "int8").choose()


class _Trial:
    """One float result, its variants and what the device says of them."""

    def __init__(
        self,
        session: Session,
        module: nn.Module,
        exported: ExportedModel,
        comparison: Mapping[str, Any],
        *,
        forced: bool,
    ) -> None:
        import onnxruntime

        self.session, self.module, self.exported, self.comparison = session, module, exported, comparison
        self.forced = forced
        info, provider = session.measuring.device.info, session.measuring.settings.provider
        self.no_float16 = float16_reason(info.architecture, provider)
        self.variants = variants_for(info, provider, float16=self.no_float16 is None and not forced)
        data, seed = session.subject.data, session.options.seed
        self.files = VariantFiles(
            exported, session.out / VARIANTS_FOLDER, lambda: calibration_images(data.train, seed=seed)
        )
        # Another version of the tools writes other files.
        self.key = f"precision {exported.sha256[:8]} {onnxruntime.__version__}"
        count = max(FEWEST_IMAGES, int(EVALUATION_S * 1e9 / comparison["latency_ns"]["p50"]))
        order = np.random.default_rng(seed).permutation(len(data.validation))[:count]
        self.images: Split = data.validation.take(order)

    def choose(self) -> Choice:
        session, comparison = self.session, self.comparison
        session.observer.stage("trying lower precisions on the device, in turns with the float result")
        entries = session.once(f"{self.key} turns", self._measure)
        known = self._known()
        chosen: Choice | None = None
        for index in self._order(entries):
            entry, variant = entries[index], self._most_accurate(self.variants[index])
            entry["reason"] = accuracy_reason(
                self._describe(entry, variant, self.images), known, session.options.max_accuracy_drop
            )
            if entry["reason"] is not None and not self.forced:
                continue
            file, final = self._final(variant)
            entry["reason"] = entry["reason"] or final_reason(final, comparison, session.options.max_memory_bytes)
            if entry["reason"] is None or self.forced:
                chosen = Choice(
                    precision=variant.precision,
                    file=file,
                    comparison=final,
                    document={},
                    artifact=_FILE_NAMES.get(variant.precision, _INT8_FILE)[0],
                )
                entry["taken"] = True
                break
            file.path.unlink()
        if chosen is None:
            self._price(entries)
        document = _document(FLOAT32 if chosen is None else chosen.precision, self._told(entries), known)
        if chosen is not None:
            return Choice(
                precision=chosen.precision,
                file=chosen.file,
                comparison=chosen.comparison,
                document={**document, "reason": "asked for by --precision int8" if self.forced else None},
                artifact=chosen.artifact,
            )
        problem = None
        if self.forced:
            problem = "int8 cannot be had here: " + "; ".join(
                f"{each['precision']}: {each['reason']}" for each in entries
            )
        return Choice(precision=FLOAT32, file=self.exported, comparison=comparison, document=document, problem=problem)

    def _order(self, entries: Sequence[Mapping[str, Any]]) -> list[int]:
        """The places of what may be taken, the fastest first: all that are faster than float32, or the fastest int8 alone."""
        ran = [index for index, entry in enumerate(entries) if entry["ratio_to_float"] is not None]
        ran.sort(key=lambda index: float(entries[index]["ratio_to_float"]))
        if self.forced:
            return ran[:1]
        return [index for index in ran if entries[index]["decision"] == DecisionCode.FASTER.value]

    def _price(self, entries: Sequence[dict[str, Any]]) -> None:
        """Find out what the fastest static int8 would have cost in accuracy, where nothing is taken."""
        static = [
            (entry["ratio_to_float"], index)
            for index, entry in enumerate(entries)
            if entry["precision"] == INT8_STATIC and entry["ratio_to_float"] is not None
        ]
        if static:
            index = min(static)[1]
            if entries[index]["validation_accuracy"] is None:
                self._describe(entries[index], self.variants[index], self.images)

    def _told(self, entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Give every entry that is not taken its reason, and float16 that was not tried an entry."""
        taken = next((entry["precision"] for entry in entries if entry["taken"]), None)
        for entry in entries:
            if not entry["taken"] and entry["reason"] is None:
                entry["reason"] = latency_reason(entry["decision"]) or f"{taken} is faster"
        if self.no_float16 is not None and not self.forced:
            return [*entries, {**_entry(Variant(precision=FLOAT16)), "reason": self.no_float16}]
        return list(entries)

    def _measure(self) -> list[dict[str, Any]]:
        """Make every variant's file and measure those that the device runs in turns with the float result."""
        entries, ready = [_entry(variant) for variant in self.variants], []
        for index, (variant, entry) in enumerate(zip(self.variants, entries, strict=True)):
            self.session.observer.step(index, len(entries))
            try:
                file = self.files.file(variant)
            except QuantizationFailed as error:
                entry["reason"] = str(error)
                continue
            entry["size_bytes"] = file.size_bytes
            ready.append((entry, file))
        try:
            decisions = self._decide([file for _, file in ready])
        except _REFUSALS:
            ready = [(entry, file) for entry, file in ready if self._runs(entry, file)]
            decisions = self._decide([file for _, file in ready])
        for (entry, _), decision in zip(ready, decisions, strict=True):
            ratio = decision.ratio
            entry["ratio_to_float"], entry["decision"] = ratio.ratio, decision.code.value
            entry["ratio_interval"] = None if ratio.low is None else [ratio.low, ratio.high]
            self.session.observer.note(
                f"{entry['precision']}{'' if entry['types'] is None else ' ' + entry['types']}: "
                f"{ratio.ratio:.3f}x of the float time"
            )
        return entries

    def _decide(self, files: Sequence[ExportedModel]) -> tuple[Decision, ...]:
        if not files:
            return ()
        names = ("float32", *(file.path.stem for file in files))
        measurement = self.session.measuring.in_turns((self.exported, *files), names)
        return decide_all(measurement.runs, len(names))

    def _runs(self, entry: dict[str, Any], file: ExportedModel) -> bool:
        try:
            self.session.measuring.outputs(file, self.images.images[:1])
        except _REFUSALS as error:
            entry["reason"] = f"the device cannot run it: {error}"
            return False
        return True

    def _most_accurate(self, variant: Variant) -> Variant:
        """Return the variant of the same speed that classifies most of a few images right, the first of equals."""
        few = self.images.take(slice(SELECTION_IMAGES))
        scores: list[tuple[int, Variant]] = []
        for each in variant.same_speed():
            try:
                scores.append((self._accuracy(each, few)["correct"], each))
            except QuantizationFailed as error:
                self.session.observer.note(str(error))
        return max(scores, key=lambda score: score[0])[1] if scores else variant

    def _describe(self, entry: dict[str, Any], variant: Variant, images: Split) -> int:
        """Fill in what is known of a variant after its accuracy; return how many images it classifies right."""
        found = self._accuracy(variant, images)
        entry.update(_named(variant), size_bytes=found["size_bytes"], host_agreement=found["host_agreement"])
        entry["validation_accuracy"] = found["correct"] / len(images)
        correct: int = found["correct"]
        return correct

    def _accuracy(self, variant: Variant, images: Split) -> dict[str, Any]:
        def measure() -> dict[str, Any]:
            file = self.files.file(variant)
            found = answers(self.session, file, images.images, self.comparison["latency_ns"]["p50"])
            return {
                "correct": int((found == images.labels).sum()),
                "host_agreement": float((found == answers_on_host(file, images.images)).mean()),
                "size_bytes": file.size_bytes,
            }

        value: dict[str, Any] = self.session.once(f"{self.key} accuracy {variant.slug} {len(images)}", measure)
        self.session.observer.note(
            f"{variant.slug}: {value['correct']} of {len(images)} validation images right on the device; the same class as on "
            f"this host for {value['host_agreement']:.1%}"
        )
        return value

    def _known(self) -> Correct:
        images = self.images
        right = evaluate(self.module, images.images, images.labels).correct
        baseline = right
        if self.session.options.max_accuracy_drop is not None:
            baseline = evaluate(self.session.original, images.images, images.labels).correct
        return Correct(count=len(images), float32=right, baseline=baseline)

    def _final(self, variant: Variant) -> tuple[ExportedModel, dict[str, Any]]:
        """Put the variant's file beside the float one, and measure it in turns with the baseline."""
        path = self.session.out / _FILE_NAMES.get(variant.precision, _INT8_FILE)[1]
        key = f"{self.key} final {variant.slug}"

        def put() -> ExportedModel:
            write_whole(path, self.files.file(variant).path.read_bytes())
            return describe(path)

        def measure() -> dict[str, Any]:
            file = put()
            return {"sha256": file.sha256, **measure_final(self.session, file, window=(0.0, 1.0))}

        self.session.observer.stage(f"measuring the {variant.precision} result, in turns with the baseline")
        final = self.session.once(key, measure)
        file = describe(path) if path.exists() else put()
        return (file if file.sha256 == final["sha256"] else put()), final


def _document(chosen: str, tried: Sequence[Mapping[str, Any]], known: Correct | None) -> dict[str, Any]:
    return {
        "chosen": chosen,
        "reason": None,
        "float_validation_accuracy": None if known is None else known.float32 / known.count,
        "validation_images": None if known is None else known.count,
        "tried": list(tried),
    }


def _named(variant: Variant) -> dict[str, str | None]:
    types = None if variant.scheme is None else variant.scheme.text
    return {"precision": variant.precision, "types": types, "calibration": variant.calibration}


def _entry(variant: Variant) -> dict[str, Any]:
    return {
        **_named(variant),
        "taken": False,
        "ratio_to_float": None,
        "ratio_interval": None,
        "decision": None,
        "validation_accuracy": None,
        "host_agreement": None,
        "size_bytes": None,
        "reason": None,
    }
