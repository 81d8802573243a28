"""One round of a compression: choose channels under a latency budget, check on the device, fine-tune."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from host.compress.cuts import PrunableNetwork
from host.compress.cutting import RECALIBRATION_BATCHES, cut_and_refit
from host.compress.evaluation import evaluate
from host.compress.finetune import recipe_for
from host.compress.groups import analyse
from host.compress.importance import evened, raw_scores
from host.compress.losses import label_loss
from host.compress.ranking import Rank, Ranking
from host.compress.search import LEAST_USE, finalists, search_plans
from host.compress.sensitivity import calibration_batches, estimated_losses, measure_losses
from host.compress.session import Session, State
from host.compress.surgery import channels_to_keep, prune
from host.search.asktell import Told, anchored
from host.search.budgets import correct
from host.search.exact import Exact
from host.search.latency import LatencyModel
from host.search.meeting import Found, Tried, find_plan
from host.search.network import Plan
from host.search.planner import Infeasible, solve, uniform
from host.search.probe import Probe
from host.search.solution import TOLERANCE, with_dropped
from host.search.surrogate import Losses

CALIBRATION_IMAGES = 256
#: Batches of them that losses are measured on: they are no more than the search's beginning.
LOSS_BATCHES = 4
#: How much longer a plan that measured just under the target is measured before it is trained.
CONFIRMED_LONGER = 4.0
#: Plans of a search that the device measures where the latency has to be met.
FINALISTS = 2


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

    `accuracy` is on validation data with the weights refitted; `predicted` the latency model's ratio before the measurement.
    `divergence` of its answers from the original's ranks plans; None where only one plan was there to take.
    """

    method: str
    found: Found
    predicted: float
    state: State
    accuracy: float
    divergence: float | None = None


def best_of(candidates: Sequence[Candidate], wanted: Round) -> Candidate:
    """Return the nearest to the original of the candidates at or under the ratio (or the window); the fastest where none is.

    The most accurate where not all have a divergence.
    """
    limit = max(wanted.window[1], 1.0) * wanted.ratio
    reached = [each for each in candidates if each.found.best.ratio <= limit]
    if not reached:
        return min(candidates, key=lambda each: each.found.best.ratio)
    if all(each.divergence is not None for each in reached):
        return min(reached, key=lambda each: (each.divergence, -each.accuracy))
    return max(reached, key=lambda each: each.accuracy)


class Chooser:
    """The choices of one round, all cut from `start`. Channels are counted in the original's coordinates by `State.kept`.

    `model` learns from every candidate that the device measured.
    """

    def __init__(
        self,
        session: Session,
        start: State,
        wanted: Round,
        model: LatencyModel,
        widths: Mapping[str, tuple[int, ...]],
    ) -> None:
        self.session, self.start, self.wanted, self.model = session, start, wanted, model
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
        raw = raw_scores(self.current, start.module, criterion, batches=batches, loss=loss, seed=seed)
        self.scores: Mapping[str, Tensor] = evened(raw)
        self._ranking: Ranking | None = None
        session.observer.stage(f"{wanted.name}: what each width would cost in accuracy")
        self.estimates = estimated_losses(self.current, self.scores, self.widths)
        if session.options.sensitivity == "measured":
            self.losses = self._losses(batches[:LOSS_BATCHES])
        else:
            self.losses = estimated_losses(self.current, raw, self.widths)
        for each in (self.losses, self.estimates):
            each.update({name: {count: 0.0} for name, count in self.spent.items()})
        self.widths.update({name: (count,) for name, count in self.spent.items()})
        session.trace.set_losses(wanted.name, self.losses)

    def candidates(self, methods: Sequence[str]) -> list[Candidate]:
        """Return measured candidates; Infeasible only if no method has a plan.

        With "latency" among the methods the plans of a search, in which the uniform plan competes if it is another of them.
        """
        found, failures = [], []
        tries = self._searched("uniform" in methods) if "latency" in methods else [(name, None) for name in methods]
        for method, told in tries:
            self.session.observer.stage(f"{self.wanted.name}: {_TITLES[method]}, checked on the device")
            try:
                found.append(self._candidate(method, told))
            except Infeasible as error:
                failures.append(error)
        if not found:
            raise failures[0]
        return found

    def nearest_unmeasured(self, budget: float) -> tuple[Plan, float]:
        """Return the plan of least loss or the uniform one at a predicted latency, and its divergence from the original.

        Whichever is nearer to it. Infeasible if neither exists.
        """
        found, failures = [], []
        for method in ("latency", "uniform"):
            try:
                plan = self._solve(method, budget)
            except Infeasible as error:
                failures.append(error)
            else:
                found.append((plan, self._ranked_once(plan)))
        if not found:
            raise failures[0]
        return min(found, key=lambda each: each[1])

    def _searched(self, uniform_too: bool) -> list[tuple[str, Told]]:
        """Search for plans at equal predicted latency; return those that the device has to measure, best first."""
        session, wanted = self.session, self.wanted
        session.observer.stage(f"{wanted.name}: searching among plans of equal latency")
        ratio = correct((), wanted.ratio, wanted.window)
        assert ratio is not None
        starts = {}
        if uniform_too:
            with contextlib.suppress(Infeasible):
                starts["uniform"] = self._solve("uniform", ratio)
        found = search_plans(
            session,
            wanted.name,
            exact=Exact(session.network, self.widths, self.model, session.budgets),
            widths=self.widths,
            ratio=ratio,
            starts=starts,
            losses={
                "least loss": self.losses,
                "criterion": self.estimates,
                "even losses": {name: {w: v**0.5 for w, v in row.items()} for name, row in self.losses.items()},
            },
            rank=self._rank,
            # A round that is followed by another need not be the best: what it leaves is cut again.
            most=session.options.candidates if wanted.tries > 1 else -(-session.options.candidates // 2),
        )
        self.learned = found.losses
        session.trace.searches.append(found.document)
        best, first = found.ranked[0], min(found.ranked, key=lambda each: each.proposal.number)
        session.observer.note(
            f"{len(found.ranked)} plans ranked; divergence from the original {best.score:.3f} ({best.proposal.origin}), "
            f"{first.score:.3f} at the first ({first.proposal.origin})"
        )
        chosen = finalists(found.ranked, FINALISTS if wanted.tries > 1 else 1)
        return [("uniform" if told.proposal.origin == "uniform" else "latency", told) for told in chosen]

    def _candidate(self, method: str, told: Told | None) -> Candidate:
        wanted, session = self.wanted, self.session
        probes: list[Probe] = []

        def propose(budget: float) -> Plan:
            return self._solve(method, budget) if told is None else self._near(told.proposal.plan, budget)

        def measure(plan: Plan, longer: float = 1.0) -> Tried:
            key = f"{wanted.name} {method} {_digest(plan)}" + (" at length" if longer > 1 else "")
            probe = session.probe(key, plan, lambda: self._cut(plan), longer=longer)
            probes.append(probe)
            prediction = self.model.predict(plan)
            session.trace.prediction(key, prediction)
            beyond = (
                f" (beyond what was probed at {', '.join(prediction.extrapolated)})" if prediction.extrapolated else ""
            )
            tried = session.tried(key, probe)
            session.observer.note(
                f"predicted {prediction.ratio:.3f}x{beyond}, measured {tried.ratio:.3f}x of the baseline's latency"
            )
            return tried

        found = find_plan(
            propose,
            measure,
            target=wanted.ratio,
            window=wanted.window,
            tries=wanted.tries,
            confirm=lambda plan: measure(plan, CONFIRMED_LONGER),
        )
        plan = found.best.plan
        predicted = self.model.predict(plan).ratio
        self.model = self.model.updated(*probes)
        # Kept in the journal: sums in another order may break ties otherwise, and trained weights belong to these channels.
        indices = session.once(
            f"{wanted.name} {method} channels {_digest(plan)}",
            lambda: self._channels(plan),
        )
        data, seed = session.subject.data, session.options.seed
        module = cut_and_refit(self.current, self.start.module, indices, data.train, seed=seed)
        accuracy = evaluate(module, data.validation.images, data.validation.labels).accuracy
        session.observer.note(f"validation accuracy before fine-tuning {accuracy:.1%}")
        session.trace.candidate(wanted.name, method, plan, accuracy, found.best.ratio)
        kept = dict(self.start.kept)
        kept |= {name: tuple(self.start.kept[name][index] for index in chosen) for name, chosen in indices.items()}
        return Candidate(
            method=method,
            found=found,
            predicted=predicted,
            state=State(module=module, plan=plan, kept=kept),
            accuracy=accuracy,
            divergence=None if told is None else self._divergence(plan),
        )

    def _near(self, plan: Plan, budget: float) -> Plan:
        """Return `plan` where it is predicted at the budget, else the least change of it that is."""
        if budget * LEAST_USE <= self.model.predict(plan).ratio <= budget * (1 + TOLERANCE):
            return plan
        return self._least_loss(anchored(plan, self.learned, self.widths), budget)

    def _rank(self, plan: Plan) -> Rank:
        if self._ranking is None:
            session = self.session
            self._ranking = Ranking(
                self.current,
                self.start.module,
                session.original,
                session.subject.data.train,
                seed=session.options.seed,
            )
        return self._ranking.rank(self._channels(plan))

    def _divergence(self, plan: Plan) -> float:
        """Return the divergence of a plan that was measured, ranked already or not."""
        for row in self.session.trace.searches[-1]["candidates"]:
            if row["kept"] == dict(plan.kept):
                return float(row["divergence"])
        return self._ranked_once(plan)

    def _ranked_once(self, plan: Plan) -> float:
        key = f"{self.wanted.name} divergence {_digest(plan)}"
        return float(self.session.once(key, lambda: self._rank(plan).divergence))

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
        return self._least_loss(self.losses, budget)

    def _least_loss(self, losses: Losses, budget: float) -> Plan:
        return solve(
            self.session.network,
            self.widths,
            losses,
            self.model,
            latency_ratio=budget,
            at_least=budget * LEAST_USE,
            budgets=self.session.budgets,
        ).plan

    def _cut(self, plan: Plan) -> nn.Module:
        return prune(self.current, self.start.module, self._channels(plan))

    def _channels(self, plan: Plan) -> dict[str, list[int]]:
        here = Plan(kept={name: count for name, count in plan.kept.items() if name not in self.spent})
        return channels_to_keep(self.current, self.scores, here)

    def _losses(self, batches: Sequence[tuple[Tensor, Tensor]]) -> dict[str, dict[int, float]]:
        journal, prefix = self.session.journal, f"{self.wanted.name} loss "
        known = {}
        for group in self.current.network.groups:
            for width in self.widths[group.name]:
                if (key := f"{prefix}{group.name} {width}") in journal:
                    known[group.name, width] = float(journal.once(key, float))
        return measure_losses(
            self.current,
            self.start.module,
            self.scores,
            self.widths,
            batches,
            recalibrate=[images for images, _ in batches[:RECALIBRATION_BATCHES]],
            on_step=self.session.observer.step,
            known=known,
            on_found=lambda name, width, loss: journal.once(f"{prefix}{name} {width}", lambda: loss),
        )


def _digest(plan: Plan) -> str:
    """Return a short name for a plan."""
    return hashlib.sha256(repr(plan.key()).encode()).hexdigest()[:8]


_TITLES = {"latency": "a plan of the search", "uniform": "the uniform plan"}
