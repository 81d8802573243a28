"""One round's search on a device of known prices: what is ranked, what is measured, and what a stopped run repeats."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_nets import randomised

from device_agent.contract.settings import Settings
from host.compress import ranking, sensitivity
from host.compress.evaluation import recalibrate_batch_norm
from host.compress.findings import searches_of
from host.compress.measuring import Measuring
from host.compress.observer import Observer
from host.compress.options import CompressOptions, LatencyTarget
from host.compress.ranking import Rank, Ranking
from host.compress.rounds import Chooser, Round, best_of
from host.compress.search import finalists
from host.compress.session import Session
from host.compress.subject import Subject
from host.compress.surgery import prune
from host.datasets.dataset import Dataset3, Split
from host.search.asktell import Proposal, Told
from host.search.network import Plan
from host.zoo.cifar_resnet import CifarResNet
from host.zoo.registry import ZooModel
from tests.support.priced_device import priced_device

SHAPE = (1, 8, 8)
WANTED = Round(name="round 1 of 1", ratio=0.6, window=(0.9, 1.0), tries=3, epochs=1)


def split(count: int, seed: int) -> Split:
    rng = np.random.default_rng(seed)
    images = rng.normal(0, 1, (count, *SHAPE)).astype(np.float32)
    return Split(images=images, labels=np.arange(count, dtype=np.int64) % 3)


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., tuple[Session, Chooser]]:
    torch.manual_seed(0)
    module = randomised(CifarResNet(depth=8, in_channels=1, num_classes=3, input_size=8))
    data = Dataset3(name="noise", num_classes=3, train=split(96, 0), validation=split(30, 1), test=split(30, 2))
    subject = Subject(model=ZooModel(name="small", module=module, input_shape=SHAPE, num_classes=3), data=data)

    def begin(name: str = "out", **changes: Any) -> tuple[Session, Chooser]:
        values = {"model": "small", "data": "noise", "target": LatencyTarget(ratio=0.6), "probes": 3, **changes}
        measuring = Measuring(priced_device(), Settings(threads=1), None)
        session = Session(CompressOptions(**values), subject, measuring, tmp_path / name, Observer())
        widths, model = session.learned(1e6)
        return session, Chooser(session, session.start(), WANTED, model, widths)

    return begin


class Killed(BaseException):
    pass


def counted(monkeypatch: pytest.MonkeyPatch, most: int | None = None) -> list[Any]:
    """Note every plan that is ranked; die at the one after `most`."""
    calls: list[Any] = []
    rank = Ranking.rank

    def noted(self: Ranking, kept: Any) -> Rank:
        if most is not None and len(calls) == most:
            raise Killed
        calls.append({name: len(indices) for name, indices in kept.items()})
        return rank(self, kept)

    monkeypatch.setattr(Ranking, "rank", noted)
    return calls


def test_a_search_that_was_killed_ranks_only_the_rest_and_measures_nothing_twice(
    start: Callable[..., tuple[Session, Chooser]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        whole = counted(patch)
        session, chooser = start("whole", candidates=9)
        expected = chooser.candidates(("latency", "uniform"))
        document = session.trace.searches[0]
    with monkeypatch.context() as patch:
        first = counted(patch, most=5)
        _, chooser = start(candidates=9)
        with pytest.raises(Killed):
            chooser.candidates(("latency", "uniform"))
    with monkeypatch.context() as patch:
        rest = counted(patch)
        # The losses are known too: no image is recorded again.
        patch.setattr(sensitivity.SuffixRunner, "record", lambda *_: pytest.fail("a loss was measured again"))
        session, chooser = start(candidates=9)
        measured_before = session.measuring.device.client.measurements  # type: ignore[attr-defined]
        found = chooser.candidates(("latency", "uniform"))
    assert len(first) == 5
    assert first + rest == whole
    assert measured_before == 0
    assert [each.state.plan for each in found] == [each.state.plan for each in expected]
    again = session.trace.searches[0]
    for rows in (document["candidates"], again["candidates"]):
        for row in rows:
            del row["seconds"]
    assert again == document


def test_the_best_few_are_measured_and_the_model_learns_from_them(
    start: Callable[..., tuple[Session, Chooser]],
) -> None:
    session, chooser = start(candidates=10)
    before = chooser.model
    found = chooser.candidates(("latency", "uniform"))
    assert 1 <= len(found) <= 2
    assert all(0.9 * 0.6 <= each.found.best.ratio <= 0.6 for each in found)
    assert len(chooser.model.probes) > len(before.probes)
    taken = best_of(found, WANTED)
    assert taken.divergence == min(each.divergence for each in found if each.divergence is not None)
    session.trace.taken(WANTED.name, taken.state.plan)
    (search,) = searches_of(session)
    origins = [row["origin"] for row in search["candidates"]]
    assert origins[0] == "uniform"
    assert {"least loss", "reweighted"} <= set(origins)
    assert len({tuple(row["kept"].items()) for row in search["candidates"]}) == len(origins) <= 10
    assert all(row["predicted_ratio"] <= search["latency_ratio"] * 1.0001 for row in search["candidates"])
    for row in search["candidates"]:
        assert row["taken"] == (row["kept"] == dict(taken.state.plan.kept))
        assert row["taken"] <= (row["measured_ratio"] is not None)


def test_without_time_one_plan_is_ranked_and_the_criterion_alone_can_say_what_widths_cost(
    start: Callable[..., tuple[Session, Chooser]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sensitivity.SuffixRunner, "record", lambda *_: pytest.fail("a loss was measured"))
    session, chooser = start(candidates=9, search_seconds=1e-9, sensitivity="criterion")
    for name, row in chooser.losses.items():
        assert row[max(row)] == 0
        assert list(row.values()) == sorted(row.values()), name
    assert len(chooser.candidates(("latency",))) == 1
    assert session.trace.searches[0]["stopped"] == "seconds"
    assert len(session.trace.searches[0]["candidates"]) == 1


def test_a_plan_that_harms_less_ranks_higher(start: Callable[..., tuple[Session, Chooser]]) -> None:
    session, chooser = start()
    full = {group.name: list(range(group.channels)) for group in session.network.groups}
    data = session.subject.data.train
    ranks = Ranking(chooser.current, session.original, session.original, data, seed=0)
    half = {name: indices[: len(indices) // 2] for name, indices in full.items()}
    least = {name: indices[:2] for name, indices in full.items()}
    whole, middle, worst = (ranks.rank(each).divergence for each in (full, half, least))
    assert 0 <= whole < middle < worst
    assert ranks.rank(half) == ranks.rank(half)
    # What a cut network answers without refitted weights is farther off.
    plain = prune(chooser.current, session.original, half)
    images = torch.from_numpy(data.images[: ranking.FITTED_IMAGES])
    recalibrate_batch_norm(plain, images, 1)
    with torch.no_grad():
        own, original = plain(images).log_softmax(1), session.original(images).log_softmax(1)
    apart = torch.nn.functional.kl_div(own, original, reduction="batchmean", log_target=True)
    assert middle < float(apart)


def test_finalists_differ_in_more_than_one_group() -> None:
    def told(score: float, *widths: int) -> Told:
        plan = Plan(kept=dict(zip("abc", widths, strict=True)))
        return Told(proposal=Proposal(number=int(10 * score), origin="drawn", plan=plan), score=score)

    best, near, other, third = told(0.1, 8, 8, 8), told(0.2, 16, 8, 8), told(0.3, 16, 16, 8), told(0.4, 8, 16, 16)
    assert finalists((best, near, other, third), 2) == [best, other]
    assert finalists((best, near, other, third), 5) == [best, other, third]
    assert finalists((best, near), 2) == [best]
