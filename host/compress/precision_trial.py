"""One float result's lower precisions on the device: time in turns with it, accuracy, and the final measurement of one.

Accuracy is what the *device* answers: without a dot-product instruction the same int8 file can saturate on one processor and be
exact on the next. Everything that takes device time is in the journal.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import nn

from device_agent.contract.decision import Decision, decide
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
from host.compress.nodes import ExportedModel
from host.compress.precision_rule import Correct
from host.compress.quantization import QuantizationFailed, calibration_images
from host.compress.resolution import for_files
from host.compress.session import Session
from host.compress.variants import INT8_DYNAMIC, VARIANTS_FOLDER, Variant, family_of
from host.datasets.dataset import Split
from host.files import write_whole

#: Device time for the accuracy of one candidate; images are left out beyond it, but never below this count.
EVALUATION_S, FEWEST_IMAGES = 30.0, 256
#: Validation images on which calibrations are told apart.
SELECTION_IMAGES = 512

#: The device cannot run a file; the others go on without it.
_REFUSALS = (ModelRejected, RuntimeUnavailable, WorkerCrashed, WorkerOutOfMemory, WorkerTimedOut)


class PrecisionTrial:
    """`module` is trained, `exported` its float32 file, `comparison` what `measure_final` said of that, the latency at least.

    `variants` None tries all that may be worth it on the device; `evaluation_s` is the device time for the accuracy of one.
    """

    def __init__(
        self,
        session: Session,
        module: nn.Module,
        exported: ExportedModel,
        comparison: Mapping[str, Any],
        *,
        variants: tuple[Variant, ...] | None = None,
        evaluation_s: float = EVALUATION_S,
    ) -> None:
        self.session, self.exported, self.comparison = session, exported, comparison
        info, provider = session.measuring.device.info, session.measuring.settings.provider
        forced = session.options.precision == "int8"
        self.family = family_of(session.format.name, info, provider, forced=forced)
        self.no_float16 = self.family.no_float16
        self.variants = self.family.variants if variants is None else variants
        data, seed = session.subject.data, session.options.seed
        self._files = self.family.files(
            exported,
            session.out / VARIANTS_FOLDER,
            lambda: for_files(session, calibration_images(data.train, seed=seed)),
        )
        # Another version of the tools writes other files.
        self._key = f"precision {exported.sha256[:8]} {self.family.tools}"
        self._latency_ns: float = comparison["latency_ns"]["p50"]
        count = max(FEWEST_IMAGES, int(evaluation_s * 1e9 / self._latency_ns))
        self._images: Split = data.validation.take(
            np.random.default_rng(seed).permutation(len(data.validation))[:count]
        )
        self._module = module

    def entries(self) -> list[dict[str, Any]]:
        """Return an entry of the record for each of `variants`, with what was measured in turns with the float result."""
        entries: list[dict[str, Any]] = self.session.once(f"{self._key} turns", self._measure)
        return copy.deepcopy(entries)  # the caller goes on filling them in, and the journal's own stay as measured

    def known(self) -> Correct:
        """Return how many of the images are classified right in float32."""
        images, original = self._images, self.session.original

        def count() -> dict[str, int]:
            right = evaluate(self._module, images.images, images.labels).correct
            baseline = right
            if self.session.options.max_accuracy_drop is not None and self._module is not original:
                baseline = evaluate(original, images.images, images.labels).correct
            return {"count": len(images), "float32": right, "baseline": baseline}

        return Correct(**self.session.once(f"{self._key} known {len(images)}", count))

    def file(self, variant: Variant) -> ExportedModel:
        """Return the variant's file."""
        return self._files.file(variant)

    def most_accurate(self, variant: Variant) -> Variant:
        """Return the variant of the same speed that classifies most of a few images right, the first of equals."""
        few = self._images.take(slice(SELECTION_IMAGES))
        scores: list[tuple[int, Variant]] = []
        for each in variant.same_speed():
            try:
                scores.append((self._accuracy(each, few)["correct"], each))
            except QuantizationFailed as error:
                self.session.observer.note(str(error))
        return max(scores, key=lambda score: score[0])[1] if scores else variant

    def accuracy(self, variant: Variant) -> dict[str, Any]:
        """Return `correct` images as the device answers, `host_agreement` and `size_bytes`."""
        return self._accuracy(variant, self._images)

    def final(self, variant: Variant, window: tuple[float, float] = (0.0, 1.0)) -> tuple[ExportedModel, dict[str, Any]]:
        """Put the variant's file beside the float one, and measure it in turns with the baseline, as `measure_final` does."""
        path = self.session.out / self.family.names[variant.precision][1]

        def put() -> ExportedModel:
            write_whole(path, self._files.file(variant).path.read_bytes())
            return self.family.describe(path)

        def measure() -> dict[str, Any]:
            file = put()
            return {"sha256": file.sha256, **measure_final(self.session, file, window=window)}

        self.session.observer.stage(f"measuring the {variant.precision} result, in turns with the baseline")
        final = self.session.once(f"{self._key} final {variant.slug}", measure)
        file = self.family.describe(path) if path.exists() else put()
        return (file if file.sha256 == final["sha256"] else put()), final

    def _measure(self) -> list[dict[str, Any]]:
        """Make every variant's file and measure those that the device runs in turns with the float result."""
        entries, ready = [entry_of(variant) for variant in self.variants], []
        for index, (variant, entry) in enumerate(zip(self.variants, entries, strict=True)):
            self.session.observer.step(index, len(entries))
            try:
                file = self._files.file(variant)
            except QuantizationFailed as error:
                entry["reason"] = str(error)
                continue
            entry["size_bytes"] = file.size_bytes
            ready.append((entry, file))
        # The slowest of a job ends it, and dynamic int8 can take ten times as long: it would leave the others without runs.
        static = [pair for pair in ready if pair[0]["precision"] != INT8_DYNAMIC]
        dynamic = [pair for pair in ready if pair[0]["precision"] == INT8_DYNAMIC]
        decided = self._decided(static, slowest=2) + self._decided(dynamic, slowest=10)
        for entry, decision in decided:
            ratio = decision.ratio
            entry["ratio_to_float"], entry["decision"] = ratio.ratio, decision.code.value
            entry["ratio_interval"] = None if ratio.low is None else [ratio.low, ratio.high]
            types = "" if entry["types"] is None else f" ({entry['types']})"
            self.session.observer.note(f"{entry['precision']}{types}: {ratio.ratio:.3f}x of the float32 time")
        return entries

    def _decided(
        self, ready: Sequence[tuple[dict[str, Any], ExportedModel]], *, slowest: float
    ) -> list[tuple[dict[str, Any], Decision]]:
        """Decide in one job on the files that the device runs; `slowest` is a guess at the largest ratio to float32."""
        try:
            return self._decide(ready, slowest)
        except _REFUSALS:
            return self._decide([(entry, file) for entry, file in ready if self._runs(entry, file)], slowest)

    def _decide(
        self, ready: Sequence[tuple[dict[str, Any], ExportedModel]], slowest: float
    ) -> list[tuple[dict[str, Any], Decision]]:
        if not ready:
            return []
        models = (self.exported, *(file for _, file in ready))
        names = ("float32", *(file.path.stem for _, file in ready))
        slowest_run_s = slowest * self._latency_ns / 1e9
        runs = self.session.measuring.in_turns(models, names, slowest_run_s=slowest_run_s).runs
        count = len(self.variants)  # all decisions of the trial share one error rate
        decided = []
        for place, (entry, _) in enumerate(ready, 1):
            try:
                decided.append((entry, decide(runs, 0, place, comparisons=count)))
            except ValueError:  # not one block of turns in the time
                entry["reason"] = "too slow to be measured in turns with float32 here"
        return decided

    def _runs(self, entry: dict[str, Any], file: ExportedModel) -> bool:
        try:
            self.session.measuring.outputs(file, for_files(self.session, self._images.images[:1]))
        except _REFUSALS as error:
            entry["reason"] = f"the device cannot run it: {error}"
            return False
        return True

    def _accuracy(self, variant: Variant, images: Split) -> dict[str, Any]:
        def measure() -> dict[str, Any]:
            file = self._files.file(variant)
            found = answers(self.session, file, images.images, self._latency_ns)
            return {
                "correct": int((found == images.labels).sum()),
                "host_agreement": float(
                    (found == answers_on_host(file, for_files(self.session, images.images))).mean()
                ),
                "size_bytes": file.size_bytes,
            }

        value: dict[str, Any] = self.session.once(f"{self._key} accuracy {variant.slug} {len(images)}", measure)
        agreement = value["host_agreement"]
        self.session.observer.note(
            f"{variant.slug}: {value['correct'] / len(images):.1%} of {len(images)} validation images right on the device"
            + ("" if agreement == 1 else f"; this host answers otherwise for {1 - agreement:.1%}")
        )
        return value


def named(variant: Variant) -> dict[str, str | None]:
    """Return the fields of an entry that say which variant it is."""
    types = None if variant.scheme is None else variant.scheme.text
    return {"precision": variant.precision, "types": types, "calibration": variant.calibration}


def entry_of(variant: Variant) -> dict[str, Any]:
    """Return a variant's entry in the record before anything is known of it."""
    unknown = ("ratio_to_float", "ratio_interval", "decision", "validation_accuracy", "host_agreement", "size_bytes")
    return {**named(variant), "taken": False, **dict.fromkeys(unknown), "reason": None}
