"""One round of a compression: choose channels under a latency budget, check on the device, fine-tune."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from host.compress.cuts import PrunableNetwork
from host.compress.evaluation import evaluate, recalibrate_batch_norm
from host.compress.finetune import recipe_for
from host.compress.groups import analyse
from host.compress.importance import scores
from host.compress.losses import label_loss
from host.compress.sensitivity import calibration_batches, measure_losses
from host.compress.session import Session, State
from host.compress.surgery import channels_to_keep, prune
from host.search.latency import LatencyModel
from host.search.meeting import Found, Tried, find_plan
from host.search.network import Plan
from host.search.planner import Infeasible, solve, uniform
from host.search.probe import Probe
from host.search.solution import with_dropped

CALIBRATION_IMAGES = 256
RECALIBRATION_BATCHES = 4
#: A solution uses at least this share of its budget where one does: equal losses leave it open otherwise.
LEAST_USE = 0.985


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What a round has to reach: a ratio to the baseline's latency, within `window` (shares of it), in `tries` measurements."""

    name: str
    ratio: float
    window: tuple[float, float]
    tries: int
    epochs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A plan that the device has measured, cut from the round's start and not trained yet.

    `accuracy` is on validation data with batch norm recalibrated; `predicted` the latency model's ratio before the measurement.
    """

    method: str
    found: Found
    predicted: float
    state: State
    accuracy: float


def best_of(candidates: Sequence[Candidate], wanted: Round) -> Candidate:
    """Return the most accurate of the candidates at or under the ratio (or the window); the fastest where none is."""
    limit = max(wanted.window[1], 1.0) * wanted.ratio
    reached = [each for each in candidates if each.found.best.ratio <= limit]
    if not reached:
        return min(candidates, key=lambda each: each.found.best.ratio)
    return max(reached, key=lambda each: each.accuracy)


class Chooser:
    """The choices of one round, all cut from `start`. Channels are counted in the original's coordinates by `State.kept`."""

    def __init__(
        self,
        session: Session,
        start: State,
        wanted: Round,
        model: LatencyModel,
        widths: Mapping[str, tuple[int, ...]],
    ) -> None:
        self.session, self.start, self.wanted, self.model = session, start, wanted, model
        self.measured: list[Probe] = []
        self.current: PrunableNetwork = analyse(start.module, session.example)
        self.widths = {
            group.name: (*(w for w in widths[group.name] if w < group.channels), group.channels)
            for group in self.current.network.groups
        }
        if session.options.drop_blocks:
            self.widths = with_dropped(self.widths, self.current.network.branches)
        #: Groups that earlier rounds left with the least that they can have; they are none any more.
        self.spent = {name: count for name, count in start.plan.kept.items() if name not in self.widths}
        split, seed = session.subject.data.train, session.options.seed
        batches = calibration_batches(split, CALIBRATION_IMAGES, seed=seed)
        criterion = session.options.criterion
        loss = label_loss(recipe_for(session.options, 1))
        self.scores: Mapping[str, Tensor] = scores(
            self.current, start.module, criterion, batches=batches, loss=loss, seed=seed
        )
        session.observer.stage(f"{wanted.name}: what each width would cost in accuracy")
        stored = session.once(f"{wanted.name} losses", lambda: self._losses(batches))
        self.losses = {name: {int(w): loss for w, loss in by_width.items()} for name, by_width in stored.items()}
        self.losses.update({name: {count: 0.0} for name, count in self.spent.items()})
        self.widths.update({name: (count,) for name, count in self.spent.items()})
        session.trace.set_losses(wanted.name, self.losses)

    def candidates(self, methods: Sequence[str]) -> list[Candidate]:
        """Return one measured candidate per method that has a plan; Infeasible only if none has."""
        found, failures = [], []
        for method in methods:
            self.session.observer.stage(f"{self.wanted.name}: {_TITLES[method]}, checked on the device")
            try:
                found.append(self._candidate(method))
            except Infeasible as error:
                failures.append(error)
        if not found:
            raise failures[0]
        return found

    def updated_model(self) -> LatencyModel:
        """Return the latency model after all that this round measured."""
        model = self.model
        for probe in self.measured:
            model = model.updated(probe)
        return model

    def _candidate(self, method: str) -> Candidate:
        wanted, session = self.wanted, self.session

        def propose(budget: float) -> Plan:
            return self._solve(method, budget)

        def measure(plan: Plan) -> Tried:
            key = f"{wanted.name} {method} {_digest(plan)}"
            probe = session.probe(key, plan, lambda: self._cut(plan))
            self.measured.append(probe)
            prediction = self.model.predict(plan)
            session.trace.prediction(key, prediction.ratio, prediction.low, prediction.high)
            beyond = (
                f" (beyond what was probed at {', '.join(prediction.extrapolated)})" if prediction.extrapolated else ""
            )
            session.observer.note(
                f"predicted {prediction.ratio:.3f}x{beyond}, measured {probe.ratio:.3f}x of the baseline's latency"
            )
            return Tried(plan=plan, ratio=probe.ratio, low=probe.ratio_low, high=probe.ratio_high)

        found = find_plan(propose, measure, target=wanted.ratio, window=wanted.window, tries=wanted.tries)
        plan = found.best.plan
        # Kept in the journal: sums in another order may break ties otherwise, and trained weights belong to these channels.
        indices = session.once(
            f"{wanted.name} {method} channels {_digest(plan)}",
            lambda: self._channels(plan),
        )
        module = prune(self.current, self.start.module, indices)
        data = session.subject.data
        recalibrate_batch_norm(module, data.train.images, RECALIBRATION_BATCHES)
        accuracy = evaluate(module, data.validation.images, data.validation.labels).accuracy
        session.observer.note(f"validation accuracy before fine-tuning {accuracy:.1%}")
        session.trace.candidate(wanted.name, method, plan, accuracy, found.best.ratio)
        kept = dict(self.start.kept)
        kept |= {name: tuple(self.start.kept[name][index] for index in chosen) for name, chosen in indices.items()}
        return Candidate(
            method=method,
            found=found,
            predicted=self.model.predict(plan).ratio,
            state=State(module=module, plan=plan, kept=kept),
            accuracy=accuracy,
        )

    def _solve(self, method: str, budget: float) -> Plan:
        network, budgets = self.session.network, self.session.budgets
        if method == "uniform":
            plan = uniform(network, self.widths, self.model, budget).plan
            broken = [limit.name for limit in budgets.limits(network) if not limit.keeps(plan.kept)]
            if broken:
                raise Infeasible(
                    f"the uniform plan at {budget:.3f}x breaks the budget for {' and '.join(broken)}",
                    fastest_ratio=budget,
                    fastest_plan=plan,
                    budget=broken[0],
                )
            return plan
        return solve(
            network,
            self.widths,
            self.losses,
            self.model,
            latency_ratio=budget,
            at_least=budget * LEAST_USE,
            budgets=budgets,
        ).plan

    def _cut(self, plan: Plan) -> nn.Module:
        return prune(self.current, self.start.module, self._channels(plan))

    def _channels(self, plan: Plan) -> dict[str, list[int]]:
        here = Plan(kept={name: count for name, count in plan.kept.items() if name not in self.spent})
        return channels_to_keep(self.current, self.scores, here)

    def _losses(self, batches: Sequence[tuple[Tensor, Tensor]]) -> dict[str, Any]:
        losses = measure_losses(
            self.current,
            self.start.module,
            self.scores,
            self.widths,
            batches,
            recalibrate=[images for images, _ in batches[:RECALIBRATION_BATCHES]],
            on_step=self.session.observer.step,
        )
        return {name: {str(width): loss for width, loss in by_width.items()} for name, by_width in losses.items()}


def _digest(plan: Plan) -> str:
    """Return a short name for a plan."""
    return hashlib.sha256(repr(plan.key()).encode()).hexdigest()[:8]


_TITLES = {"latency": "the plan of least loss", "uniform": "the uniform plan"}
