"""A training shared by several processes of this machine, which this one starts, hears and ends. They never see the device."""

from __future__ import annotations

import dataclasses
import io
import os
import pickle
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from multiprocessing import parent_process
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.multiprocessing import get_context
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException, start_processes

from device_agent.contract.errors import BoardfitError, InvalidRequest
from host.compress.distributed import World, joined
from host.compress.history import EpochRecord, History, TrainingError
from host.compress.recipe import Recipe
from host.compress.training import train
from host.datasets.dataset import Dataset3, Split

#: Images of a batch that a GPU should get, if the user doesn't say: batch norm is poor with fewer.
LEAST_SHARE = 32
#: How long to wait for a word or an end before looking for the other (s).
LOOK_S = 0.05


def worker_count(wanted: int | None, batch_size: int) -> int:
    """How many processes train: as many as wanted, by default one per GPU that gets a fair share of a batch, else one.

    Raises InvalidRequest for more than there are GPUs.
    """
    gpus = torch.cuda.device_count()
    if wanted is None:
        return max(1, min(gpus, batch_size // LEAST_SHARE))
    if gpus and wanted > gpus:
        raise InvalidRequest(f"{wanted} workers need a GPU each, and there are {gpus}: ask for {gpus} at most")
    return wanted


def train_on(
    workers: int,
    module: nn.Module,
    data: Dataset3,
    recipe: Recipe,
    *,
    teacher: nn.Module | None = None,
    on_epoch: Callable[[EpochRecord], None] | None = None,
    state_file: Path | None = None,
    resume: bool = False,
) -> History:
    """`train` with its batches shared by `workers` processes, started here if there are to be several.

    Without GPUs they divide torch's threads, unless the recipe says how many each has. Raises what `train` raises, and
    TrainingError for a module that cannot be sent to another process and for a process that dies.
    """
    if workers == 1:
        return train(module, data, recipe, teacher=teacher, on_epoch=on_epoch, state_file=state_file, resume=resume)
    if recipe.threads is None:
        recipe = dataclasses.replace(recipe, threads=max(1, torch.get_num_threads() // workers))
    with tempfile.TemporaryDirectory(prefix="boardfit-training-") as name:
        _pack(Path(name), module, data, teacher, recipe)
        # A server forks the processes, for later trainings too. It has imported torch for them, with what
        # DistributedDataParallel imports late: that alone took 1.6 s of each process.
        context = get_context("forkserver")
        context.set_forkserver_preload(["torch._dynamo", __name__])
        messages = context.SimpleQueue()
        processes = start_processes(  # type: ignore[no-untyped-call]
            _work,
            args=(workers, Path(name), messages, state_file, resume),
            nprocs=workers,
            join=False,
            start_method="forkserver",
        )
        try:
            history, weights = _listen(processes, messages, on_epoch)
        finally:
            for process in processes.processes:
                if process.is_alive():
                    process.kill()  # a state file is whole at any moment
                process.join()
    module.load_state_dict(torch.load(io.BytesIO(weights), weights_only=True))
    module.eval()
    return history


def _listen(processes: Any, messages: Any, on_epoch: Callable[[EpochRecord], None] | None) -> tuple[History, bytes]:
    """Pass epochs on until the chief has sent its result and all have ended; raise what one of them could not go on for."""
    result: tuple[History, bytes] | None = None
    ended, died = False, None
    while not ended:
        try:
            ended = processes.join(timeout=LOOK_S)
        except (ProcessRaisedException, ProcessExitedException) as error:
            ended, died = True, error
        while not messages.empty():
            message = messages.get()
            if isinstance(message, BoardfitError):
                raise message
            if isinstance(message, EpochRecord):
                if on_epoch is not None:
                    on_epoch(message)
            else:
                result = message
    if died is not None or result is None:
        raise TrainingError(f"a training process ended before its time: {str(died).strip()}") from died
    return result


def _pack(folder: Path, module: nn.Module, data: Dataset3, teacher: nn.Module | None, recipe: Recipe) -> None:
    # Arrays as files of their own, which the processes map: one copy in memory serves all.
    for name, split in data.splits().items():
        np.save(folder / f"{name}-images.npy", split.images)
        np.save(folder / f"{name}-labels.npy", split.labels)
    try:
        content = pickle.dumps((module, teacher, recipe, _emptied(data)))
    except Exception as error:
        raise TrainingError(
            f"the network cannot be sent to other processes: {error}. Define its classes in a module, outside of functions and "
            f"without lambdas, or train with --workers 1"
        ) from error
    (folder / "job").write_bytes(content)


def _unpack(folder: Path) -> tuple[nn.Module, nn.Module | None, Recipe, Dataset3]:
    module, teacher, recipe, data = pickle.loads((folder / "job").read_bytes())

    def split(name: str) -> Split:
        # Copy on write: torch asks for arrays that can be written to.
        images, labels = (np.load(folder / f"{name}-{part}.npy", mmap_mode="c") for part in ("images", "labels"))
        return Split(images=images, labels=labels)

    filled = dataclasses.replace(data, train=split("train"), validation=split("validation"), test=split("test"))
    return module, teacher, recipe, filled


def _emptied(data: Dataset3) -> Dataset3:
    """The same with one image per split."""
    one = {name: split.take(slice(1)) for name, split in data.splits().items()}
    return dataclasses.replace(data, train=one["train"], validation=one["validation"], test=one["test"])


def _follow() -> None:
    """Die when the process that started this one has died, whatever it died of: the server that forked this one lives on."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGKILL)


def _work(rank: int, size: int, folder: Path, messages: Any, state_file: Path | None, resume: bool) -> None:
    """One of the processes."""
    threading.Thread(target=_follow, daemon=True).start()
    try:
        module, teacher, recipe, data = _unpack(folder)
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # else it listens where the machine's name leads
        with joined(World(rank=rank, size=size, local_rank=rank), meeting_file=folder / "meeting") as world:
            world.wait()
            if world.chief:  # all have mapped the arrays, so nothing large stays behind even if all are killed
                for file in folder.glob("*.npy"):
                    file.unlink()
            history = train(
                module,
                data,
                recipe,
                teacher=teacher,
                on_epoch=messages.put,
                state_file=state_file,
                resume=resume,
                world=world,
            )
            if world.chief:
                weights = io.BytesIO()
                torch.save(module.state_dict(), weights)
                messages.put((history, weights.getvalue()))
    except BoardfitError as error:
        messages.put(error)
        sys.exit(1)
