"""Fine-tuning of a pruned net by a recipe of the user's. The device answers at once, and must not be asked."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from priced_device import PricedClient, priced_device
from torch import nn
from training_nets import net, same_weights, stripes

from device_agent.contract.settings import Settings
from host.compress.evaluation import evaluate
from host.compress.finetune import fine_tune
from host.compress.journal import JournalMismatch
from host.compress.measuring import Measuring
from host.compress.observer import Observer
from host.compress.options import CompressOptions, LatencyTarget
from host.compress.session import Session, State
from host.compress.subject import Subject
from host.compress.surgery import prune
from host.results.store import ResultStore
from host.zoo.registry import ZooModel

Begin = Callable[..., Session]


@pytest.fixture
def begin(tmp_path: Path) -> Begin:
    """Begin a compression, or go on with it."""

    def session(**changes: Any) -> Session:
        torch.manual_seed(0)
        module = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 1), net()).eval()
        subject = Subject(model=ZooModel(name="m", module=module, input_shape=(1, 8, 8), num_classes=2), data=stripes())
        values: dict[str, Any] = {"model": "m", "data": "d", "target": LatencyTarget(ratio=0.5), **changes}
        options = CompressOptions(learning_rate=0.05, batch_size=16, **values)
        store = ResultStore.open(f"sqlite:///{tmp_path / 'history.sqlite'}")
        return Session(
            options, subject, Measuring(priced_device(), Settings(threads=1), store), tmp_path / "out", Observer()
        )

    return session


def half(session: Session) -> State:
    kept = {group.name: tuple(range(group.channels // 2)) for group in session.network.groups}
    state = session.start()
    return dataclasses.replace(state, module=prune(session.analysed, session.original, kept), kept=kept)


RECIPE = {"threads": 1, "augmentation": {"padding": 0, "mixup": 0.2}, "ema": {"decay": 0.9}}


def test_two_workers_train_by_the_recipe_and_leave_the_device_alone(begin: Begin) -> None:
    session = begin(recipe=RECIPE, workers=2)
    client = cast(PricedClient, session.measuring.device.client)
    asked = client.measurements, client.inferences
    start = half(session)
    assert sum(value.numel() for value in start.module.parameters()) < sum(
        value.numel() for value in session.original.parameters()
    )
    test = session.subject.data.test
    before = evaluate(start.module, test.images, test.labels).loss
    state = fine_tune(session, start, name="round 1 of 1", epochs=4)
    after = evaluate(state.module, test.images, test.labels)
    assert after.loss < before  # not by much: its teacher, the original, has learned nothing
    assert after.accuracy > 0.7
    assert (client.measurements, client.inferences) == asked
    assert (session.out / "round-1-of-1.training").exists()
    again = fine_tune(session, half(session), name="round 1 of 1", epochs=4)
    assert same_weights(again.module, state.module)


def test_a_compression_goes_on_with_its_own_recipe_only(begin: Begin) -> None:
    begin(recipe=RECIPE)
    begin(recipe=RECIPE)
    with pytest.raises(JournalMismatch, match=r"other options: recipe \("):
        begin(recipe={**RECIPE, "ema": {"decay": 0.99}})
