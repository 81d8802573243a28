"""Two processes on one CPU, by gloo. They are forked by a server that has torch imported, so all but the first start at once."""

import dataclasses
import json
import os
import socket

import numpy as np
import pytest
import torch
from torch import nn
from torch.multiprocessing.spawn import start_processes
from training_nets import (
    RECIPE,
    Stop,
    net,
    one_of_two,
    plain_net,
    same_weights,
    stop_after,
    stripes,
    under_torchrun,
)

from device_agent.contract.errors import InvalidRequest
from host.compress import workers
from host.compress.distributed import World
from host.compress.history import TrainingError
from host.compress.recipe import Distillation, Ema
from host.compress.training import evaluate, train
from host.compress.workers import train_on, worker_count
from host.datasets.augment import Augmentation


@pytest.fixture(scope="module")
def data():
    return stripes()


@pytest.fixture
def npz(tmp_path, data):
    pixels = {part: ((split.images + 2) * 50).astype(np.uint8)[:24] for part, split in data.splits().items()}
    np.savez(
        tmp_path / "stripes.npz",
        x_train=pixels["train"],
        y_train=data.train.labels[:24],
        x_test=pixels["test"],
        y_test=data.test.labels[:24],
    )
    return f"npz:{tmp_path / 'stripes.npz'}"


def test_batches_are_shared_without_a_rest():
    shares = [World(rank=rank, size=3).share(10) for rank in range(3)]
    assert [list(range(10))[share] for share in shares] == [[0, 1, 2], [3, 4, 5], [6, 7, 8, 9]]


def test_two_processes_learn_what_one_learns(data):
    """Without batch norm and dropout, only sums are formed in another order; images are mixed across shares of 7 and 8."""
    augmentation = Augmentation(padding=2, erase=0.5, mixup=0.5, cutmix=1.0)
    recipe = dataclasses.replace(
        RECIPE, epochs=2, batch_size=15, augmentation=augmentation, distillation=Distillation(), ema=Ema(decay=0.9)
    )
    alone, shared, told = plain_net(), plain_net(), []
    expected = train(alone, data, recipe, teacher=plain_net(1))
    history = train_on(2, shared, data, recipe, teacher=plain_net(1), on_epoch=told.append)
    assert tuple(told) == history.epochs
    for one, two in zip(expected.epochs, history.epochs, strict=True):
        assert two.train_loss == pytest.approx(one.train_loss, rel=1e-4)
        assert two.train_accuracy == one.train_accuracy
        assert two.validation_loss == pytest.approx(one.validation_loss, rel=1e-4)
    for key, value in alone.state_dict().items():
        assert torch.allclose(shared.state_dict()[key], value, atol=1e-4)
    assert not shared.training


def test_a_cut_training_resumes_to_the_same_weights(data, tmp_path):
    whole, resumed, state = net(), net(9), tmp_path / "state"
    history = train_on(2, whole, data, RECIPE)
    assert history.epochs[-1].train_loss < history.epochs[0].train_loss
    assert evaluate(whole, data.test.images, data.test.labels).accuracy > 0.9
    with pytest.raises(Stop):
        train_on(2, net(), data, RECIPE, state_file=state, on_epoch=stop_after(2))
    seen = []
    train_on(2, resumed, data, RECIPE, state_file=state, resume=True, on_epoch=seen.append)
    assert seen[-1].epoch == 4
    assert seen[0].epoch > 2
    assert same_weights(whole, resumed)
    with pytest.raises(TrainingError, match=r"another training: other workers \(2 there, 1 here\)"):
        train(net(), data, RECIPE, state_file=state, resume=True)


def test_both_make_the_same_steps_and_end_alike_and_the_chief_alone_tells(tmp_path):
    recipe = dataclasses.replace(RECIPE, epochs=2, step="training_nets:counted_step")
    start_processes(one_of_two, args=(tmp_path, recipe), nprocs=2, start_method="forkserver")
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first["steps"] == second["steps"] == [[epoch, step, 8] for epoch in (1, 2) for step in range(1, 13)]
    assert first["weights"] == second["weights"]
    assert first["best"] == second["best"]
    assert (first["told"], second["told"]) == (2, 0)
    assert (tmp_path / "state").exists()


def test_errors_of_the_processes_arrive(data):
    hot = dataclasses.replace(RECIPE, learning_rate=1e30, warmup_epochs=0)
    with pytest.raises(TrainingError, match=r"loss became .* in epoch 1, step 2 of 12"):
        train_on(2, net(), data, hot)
    with pytest.raises(TrainingError, match="training_nets:broken_loss failed with IndexError"):
        train_on(2, net(), data, dataclasses.replace(RECIPE, loss="training_nets:broken_loss"))
    with pytest.raises(TrainingError, match="2 processes cannot share a batch of 3 images"):
        train_on(2, net(), data, dataclasses.replace(RECIPE, batch_size=3))
    with pytest.raises(TrainingError, match="sync_batch_norm works on GPUs only"):
        train_on(2, net(), data, dataclasses.replace(RECIPE, sync_batch_norm=True))


class Killed(nn.Module):
    """Ends the process that it trains in, as the kernel does when memory is short."""

    def __init__(self):
        super().__init__()
        self.inner = plain_net()

    def forward(self, x):
        if self.training:
            os.kill(os.getpid(), 9)
        return self.inner(x)


def test_a_process_that_dies_is_told(data):
    with pytest.raises(TrainingError, match=r"ended before its time: process \d terminated with signal SIGKILL"):
        train_on(2, Killed(), data, RECIPE)


def test_a_network_that_cannot_be_sent_says_what_to_do(data):
    module = plain_net()
    module.register_forward_hook(lambda *_: None)
    with pytest.raises(TrainingError, match=r"cannot be sent to other processes: .*train with --workers 1"):
        train_on(2, module, data, RECIPE)


def test_gpus_decide_how_many(monkeypatch):
    assert (worker_count(None, 64), worker_count(3, 64)) == (1, 3)
    monkeypatch.setattr(workers.torch.cuda, "device_count", lambda: 4)
    assert (worker_count(None, 64), worker_count(None, 512), worker_count(None, 8)) == (2, 4, 1)
    with pytest.raises(InvalidRequest, match="5 workers need a GPU each, and there are 4"):
        worker_count(5, 512)


def test_under_torchrun_the_chief_alone_writes_and_prints(tmp_path, npz):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = ["resnet20", "--data", npz, "--out", str(tmp_path / "net.pt"), "--epochs", "1", "--width", "0.25"]
    arguments += ["--batch-size", "8", "--threads", "1", "--json"]
    start_processes(under_torchrun, args=(tmp_path, port, arguments), nprocs=2, start_method="forkserver")
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert (first["code"], second["code"]) == (0, 0)
    assert json.loads(first["out"])["command"].endswith("--seed 0 --workers 2")
    assert "epoch 1/1" in first["err"]
    assert (second["out"], second["err"]) == ("", "")
    assert (tmp_path / "net.pt").exists()
