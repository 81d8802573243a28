"""One cell from start to end: the method at work, the rest of the fine-tuning budget, the test images, the last measurement."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.rivals.grid import Cell
from benchmarks.rivals.mcnemar import pack
from benchmarks.rivals.methods import METHODS
from benchmarks.rivals.subjects import NETS, Images10, baseline, predictions
from benchmarks.rivals.trial import CountingMeasuring, OutOfReach, Pruned, Trial, shapes
from device_agent.contract.settings import Settings
from host.compress.session import environment
from host.datasets.dataset import Dataset3
from host.fleet.client import AgentClient
from host.fleet.devices import Device
from host.fleet.local import local_agent
from host.results.store import ResultStore

#: A plan over the target by no more than this is trained for the record, although its target counts as missed.
NEARLY = 1.03


class Runner:
    """Runs cells on an agent of this machine, one thread of ONNX Runtime."""

    def __init__(self, state: Path, *, threads: int, say: Callable[[str], None]) -> None:
        self._state, self._threads, self._say = state, threads, say
        self._images: Images10 | None = None
        torch.set_num_threads(threads)

    def __call__(self, cell: Cell) -> dict[str, Any]:
        """Return what the cell's file keeps. A method that cannot reach the target, or isn't installed, is an answer as well."""
        method, net = METHODS[cell.method], NETS[cell.net]
        missing = method.missing()
        if missing is not None:
            return {"outcome": "not installed", "reason": missing}
        self._images = self._images or Images10(self._state)
        module = baseline(net, self._images, self._state, self._say, self._threads)
        data = self._images.dataset(net.tuning_images, cell.seed)
        self._baseline_answers(cell.net, module, data)
        folder = self._state / "work" / cell.name
        shutil.rmtree(folder, ignore_errors=True)  # A cell that was cut starts over: its counts are to be whole.
        folder.mkdir(parents=True)
        with (
            local_agent(self._state / "agent") as address,
            AgentClient(address) as client,
            # Of its own, so that every cell pays for what a device is asked only once in its life.
            ResultStore.open(f"sqlite:///{folder / 'history.sqlite'}") as store,
        ):
            device = Device(name="local", client=client, info=client.describe())
            settings = Settings(runtime="onnxruntime", threads=1)
            trial = Trial(
                net=net,
                baseline=module,
                data=data,
                measuring=CountingMeasuring(device, settings, store),
                folder=folder,
                shared=self._state,
                seed=cell.seed,
                threads=self._threads,
                say=lambda text: self._say(f"{cell.name}: {text}"),
            )
            began = time.perf_counter()
            answer = {
                "device": device.info.cpu,
                "environment": environment(device.info, settings),
                "commit": _commit(),
                **self._answer(trial, cell, method.tuned),
            }
            answer["host_s"] = time.perf_counter() - began
        shutil.rmtree(folder, ignore_errors=True)
        return answer

    def _answer(self, trial: Trial, cell: Cell, tuned: bool) -> dict[str, Any]:
        method = METHODS[cell.method].function()
        began = time.perf_counter()
        outcome: dict[str, Any] = {"outcome": "filled"}
        try:
            found = method(trial, cell.target)
        except OutOfReach as error:
            outcome = {"outcome": "out of reach", "reason": str(error)}
            near = error.nearest is not None and trial.measure(error.nearest, final=True).ratio <= NEARLY * cell.target
            if error.nearest is None or not near:
                return {**outcome, **_work(trial)}
            # Too slow by a hair: lost all the same, but worth knowing how accurate it is.
            found, tuned = Pruned(module=error.nearest), False
        searched = time.perf_counter() - began
        if not tuned:
            trial.tune(found.module, trial.net.epochs)
        shot = found.shot or trial.measure(found.module, final=True)
        right = _right(found.module, trial.data)
        return {
            **outcome,
            "accuracy": float(right.mean()),
            "test_images": len(right),
            "right": pack(right),
            "latency_ratio": shot.to_dict(),
            "widths": shapes(found.module),
            "search_s": searched - (trial.tuning_s if tuned else 0.0),
            **_work(trial),
            "notes": found.notes,
        }

    def _baseline_answers(self, net: str, module: nn.Module, data: Dataset3) -> None:
        import json

        from host.files import write_whole

        path = self._state / f"{net}-baseline.json"
        if not path.exists():
            right = _right(module, data)
            document = {"accuracy": float(right.mean()), "test_images": len(right), "right": pack(right)}
            write_whole(path, (json.dumps(document) + "\n").encode())


def _right(module: nn.Module, data: Dataset3) -> Any:
    return predictions(module, data.test.images) == data.test.labels


def _work(trial: Trial) -> dict[str, Any]:
    return {
        "measurements": trial.measurements,
        "device_s": trial.device_s,
        "measuring_s": trial.measuring_s,
        "tuning_s": trial.tuning_s,
        "images_seen": trial.images_seen,
        "threads": trial.threads,
    }


def _commit() -> str | None:
    found = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
    )
    return found.stdout.strip() or None
