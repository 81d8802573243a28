"""What a compression found out on its way, kept for the record, the report and the explanation; it decides nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from device_agent.contract.measurement import MeasureEvent
from host.compress.observer import Observer
from host.search.cost import Prediction
from host.search.network import Plan


class Trace:
    """Filled by the stages in their order. A run that was resumed passes through all of them again, so it is whole then too.

    Values are plain JSON ones. `losses` are those of the last round, nats above the round's start; `measurements` are summaries
    (see `Measuring`) of all that the device was asked.
    """

    def __init__(self) -> None:
        self.granularity: dict[str, Any] | None = None
        self.widths: dict[str, list[int]] = {}
        self.losses: dict[str, dict[str, float]] = {}
        self.losses_round: str | None = None
        self.probes: dict[str, dict[str, Any]] = {}
        self.predictions: dict[str, dict[str, Any]] = {}
        self.candidates: list[dict[str, Any]] = []
        #: By round, all plans that were ranked, in the order in which they were asked for.
        self.searches: list[dict[str, Any]] = []
        self.trainings: list[dict[str, Any]] = []
        self.measurements: list[dict[str, Any]] = []

    def forget_plans(self) -> None:
        """Leave out what belongs to plans of another precision; what was measured and trained remains."""
        self.granularity, self.widths = None, {}
        self.losses, self.losses_round = {}, None
        self.probes, self.predictions, self.candidates, self.searches = {}, {}, [], []

    def set_losses(self, round_name: str, losses: Mapping[str, Mapping[int, float]]) -> None:
        """Keep what each width of each group would cost, as a round measured it."""
        self.losses_round = round_name
        self.losses = {name: {str(width): loss for width, loss in row.items()} for name, row in losses.items()}

    def probe(self, key: str, value: Mapping[str, Any]) -> None:
        """Keep a variant of the whole network that ran in turns with the baseline; `value` is the journal's."""
        self.probes[key] = dict(value)

    def prediction(self, key: str, said: Prediction) -> None:
        """Keep what the latency model said of the probe `key` before the device did."""
        self.predictions[key] = prediction_values(said)

    def candidate(self, round_name: str, method: str, plan: Plan, accuracy: float | None, measured: float) -> None:
        """Keep a candidate with its validation accuracy before fine-tuning."""
        self.candidates.append(
            {
                "round": round_name,
                "method": method,
                "accuracy": accuracy,
                "measured_ratio": measured,
                "kept": dict(plan.kept),
                "taken": False,
            }
        )

    def taken(self, round_name: str, plan: Plan) -> None:
        """Mark which candidate of a round goes on to fine-tuning: of two with the same plan the first."""
        for each in self.candidates:
            if each["round"] == round_name and each["kept"] == dict(plan.kept):
                each["taken"] = True
                return

    def training(self, name: str, epochs: Sequence[Mapping[str, Any]], best_epoch: int) -> None:
        """Keep the curves of a fine-tuning."""
        self.trainings.append({"name": name, "best_epoch": best_epoch, "epochs": [dict(each) for each in epochs]})


class Timeline(Observer):
    """Passes everything on to `inner`, and notes how long each stage took; `skipped_s` is what a resumed run need not repeat."""

    def __init__(self, inner: Observer) -> None:
        self._inner = inner
        self._began = time.monotonic()
        self.skipped_s = 0.0
        self._stages: list[tuple[str, float]] = []

    @property
    def seconds(self) -> float:
        """Seconds that the compression has taken by now, the parts before a resume included."""
        return time.monotonic() - self._began + self.skipped_s

    def stage(self, text: str) -> None:
        """Begin a stage."""
        self._stages.append((text, self.seconds))
        self._inner.stage(text)

    def note(self, text: str) -> None:
        """Pass a finding on."""
        self._inner.note(text)

    def step(self, done: int, total: int) -> None:
        """Pass a step on."""
        self._inner.step(done, total)

    def event(self, event: MeasureEvent) -> None:
        """Pass an event of a measurement on."""
        self._inner.event(event)

    def stages(self) -> list[dict[str, Any]]:
        """Return name and seconds of every stage so far, in order."""
        ends = [began for _, began in self._stages[1:]] + [self.seconds]
        return [{"name": text, "seconds": end - began} for (text, began), end in zip(self._stages, ends, strict=True)]


def prediction_values(said: Prediction) -> dict[str, Any]:
    """Return a prediction as plain JSON values."""
    interval = None if said.low is None or said.high is None else [said.low, said.high]
    return {"ratio": said.ratio, "interval": interval, "extrapolated": list(said.extrapolated)}
