"""What the loss on calibration data rises by when channels of one group are removed: the planner's cost of a
width.
"""

from __future__ import annotations

import math
import os
import queue
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

import numpy as np
import torch
from scipy.interpolate import PchipInterpolator
from torch import Tensor, nn

from device_agent.contract.errors import StableError
from host.compress.cuts import PrunableNetwork, Side, mask_consumers, restore_weights
from host.compress.suffix import Recording, SuffixRunner, cross_entropy_sum, one_thread
from host.compress.surgery import channels_to_keep
from host.datasets.dataset import Split
from host.search.network import Group, Plan

#: Widths measured per group at most; the ones in between are interpolated.
MEASURED_WIDTHS = 3
#: Memory for recorded activations, shared by all workers.
RECORDING_BYTES = 400 * 2**20
#: More workers gain nothing: each streams its activations through the same memory.
MAX_WORKERS = 4


class CalibrationFailed(StableError):
    """The loss on the calibration data is not a number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    group: Group
    width: int
    removed: tuple[int, ...]
    consumers: tuple[str, ...]


def calibration_batches(
    split: Split, count: int, *, batch_size: int = 32, seed: int = 0
) -> tuple[tuple[Tensor, Tensor], ...]:
    """Draw `count` images of a split (all, if it has fewer) at random as batches (images, labels).

    32 images are fastest on small nets: the activations then stay in the cache. Give it training or
    validation images, never test ones.
    """
    order = np.random.default_rng(seed).permutation(len(split))[:count]
    chosen = split.take(order)
    images = torch.from_numpy(np.ascontiguousarray(chosen.images))
    labels = torch.from_numpy(np.ascontiguousarray(chosen.labels))
    return tuple(zip(torch.split(images, batch_size), torch.split(labels, batch_size), strict=True))


def measure_losses(
    network: PrunableNetwork,
    module: nn.Module,
    scores: Mapping[str, Tensor],
    widths: Mapping[str, tuple[int, ...]],
    batches: Sequence[tuple[Tensor, Tensor]],
    *,
    recalibrate: Sequence[Tensor] = (),
    on_step: Callable[[int, int], None] | None = None,
    budget_s: float | None = None,
    measured_widths: int = MEASURED_WIDTHS,
    workers: int | None = None,
    known: Mapping[tuple[str, int], float] | None = None,
    on_found: Callable[[str, int, float], None] | None = None,
) -> dict[str, dict[int, float]]:
    """Return, by group and width, the rise of the mean cross entropy (nats) when only that width of one group
    is kept.

    The channels of the lowest scores go. Batch norm is refitted to the image batches `recalibrate` (N, C, H,
    W) for every figure, the one of the full width included; empty leaves it as trained. `batches` are
    (images, labels).

    Of many widths `measured_widths` are measured, evenly spaced and always the smallest; the others are
    interpolated by monotone cubics. When `budget_s` seconds have passed only the smallest widths are still
    measured. Figures are made monotone by a running maximum and are 0 at the full width, which is always in
    the result.

    Each of the `workers` (None: one per core that this process may use, up to 4) is a thread with one torch
    thread: the layers are too small to be worth sharing. `on_step(done, total)` is called from the caller's
    thread. The result doesn't depend on the number of workers.

    `on_found(group, width, rise)` is called, from the same thread, with every figure as it comes; figures given as `known` are
    not measured again, so that a run that was stopped loses no more than those under way. Raises CalibrationFailed, or
    ValueError for widths that don't fit.
    """
    tasks = _tasks(network, scores, widths, measured_widths)
    asked = {(task.group.name, task.width) for task in tasks}
    found = {key: loss for key, loss in (known or {}).items() if key in asked}
    if len(found) == len(tasks):
        return _all_complete(network, widths, found)
    if not batches:
        raise ValueError("losses cannot be measured without images")
    runner = SuffixRunner(module, batches[0][0][:1])
    runner.keep_recordings(
        sum(len(images) for images, _ in batches) + sum(len(images) for images in recalibrate), RECORDING_BYTES
    )
    images = [batch.contiguous(memory_format=torch.channels_last) for batch, _ in batches]
    labels = [target for _, target in batches]
    fitting = [batch.contiguous(memory_format=torch.channels_last) for batch in recalibrate]
    deadline = None if budget_s is None else time.monotonic() + budget_s
    with one_thread():
        fitting_recordings: list[Recording] = []
        if fitting:
            runner.calibrate(lambda batch: fitting_recordings.append(runner.record(batch)[1]), fitting)
        runner.save_statistics()
        outputs = [runner.record(batch) for batch in images]
        total = sum(len(target) for target in labels)
        base = sum(cross_entropy_sum(out, target) for (out, _), target in zip(outputs, labels, strict=True)) / total
        if not math.isfinite(base):
            raise CalibrationFailed(
                f"the loss on {total} calibration images is {base} before anything is pruned: the network's weights "
                f"or the data hold values that are not numbers. Check them with `host info`, or train again."
            )
        recordings = [recording for _, recording in outputs]

        def measure(own: SuffixRunner, task: _Task) -> float:
            first = own.first_of(task.consumers)
            former = mask_consumers(own.module, network.cuts, {task.group.name: task.removed})
            try:
                if fitting:
                    turns = iter(fitting_recordings)
                    own.calibrate(lambda batch: own.run(batch, next(turns), first), fitting)
                loss = 0.0
                for batch, target, recording in zip(images, labels, recordings, strict=True):
                    loss += cross_entropy_sum(own.run(batch, recording, first), target)
                return loss / total - base
            finally:
                restore_weights(own.module, former)
                own.restore_statistics()

        def keep(task: _Task, loss: float) -> None:
            found[task.group.name, task.width] = loss
            if on_found is not None:
                on_found(task.group.name, task.width, loss)
            if on_step is not None:
                on_step(len(found), len(tasks))

        left = [task for task in tasks if (task.group.name, task.width) not in found]
        _run_all(runner, left, measure, keep, deadline, workers, covered={name for name, _ in found})
    return _all_complete(network, widths, found)


def estimated_losses(
    network: PrunableNetwork, scores: Mapping[str, Tensor], widths: Mapping[str, tuple[int, ...]]
) -> dict[str, dict[int, float]]:
    """Return, by group and width, the summed scores of the channels that go: no image is run.

    Scores in nats (`raw_scores` of Taylor or the Hessian) give a rough rise of the loss; others only an order. 0 at full width.
    """
    losses: dict[str, dict[int, float]] = {}
    for group in network.network.groups:
        if group.name not in widths:
            continue
        losses[group.name] = {}
        for width in sorted({*widths[group.name], group.channels}, reverse=True):
            stay = channels_to_keep(network, scores, Plan(kept={group.name: width}))[group.name]
            gone = sorted(set(range(group.channels)) - set(stay))
            losses[group.name][width] = float(scores[group.name][gone].sum())
    return losses


def _all_complete(
    network: PrunableNetwork, widths: Mapping[str, tuple[int, ...]], found: Mapping[tuple[str, int], float]
) -> dict[str, dict[int, float]]:
    return {
        group.name: _complete(group, widths[group.name], {w: v for (name, w), v in found.items() if name == group.name})
        for group in network.network.groups
        if group.name in widths
    }


def _tasks(
    network: PrunableNetwork,
    scores: Mapping[str, Tensor],
    widths: Mapping[str, tuple[int, ...]],
    measured_widths: int,
) -> list[_Task]:
    """In the order in which they are worth measuring: all smallest widths, then the middles, and so on."""
    if measured_widths < 1:
        raise ValueError(f"measured_widths must be at least 1, got {measured_widths}")
    ranked: list[tuple[int, int, _Task]] = []
    for place, group in enumerate(network.network.groups):
        allowed = set(widths.get(group.name, ())) - {group.channels}
        smaller = sorted(allowed - {0})
        consumers = tuple(cut.module for cut in network.cuts[group.name] if cut.side is Side.INPUT)
        # A dropped branch is a loss of its own, which no other width tells.
        dropped = [(0, 0)] if 0 in allowed else []
        for rank, width in [*enumerate(_spread(smaller, measured_widths)), *dropped]:
            kept = channels_to_keep(network, scores, Plan(kept={group.name: width}))[group.name]
            removed = tuple(sorted(set(range(group.channels)) - set(kept)))
            ranked.append((rank, place, _Task(group=group, width=width, removed=removed, consumers=consumers)))
    unknown = sorted(set(widths) - set(network.cuts))
    if unknown:
        raise ValueError(f"no group is named {', '.join(unknown)}")
    return [task for _, _, task in sorted(ranked, key=lambda entry: entry[:2])]


def _spread(ascending: Sequence[int], count: int) -> list[int]:
    """At most `count` of the values, evenly spaced: the smallest first, then each the farthest from those
    before.
    """
    if not ascending:
        return []
    positions = sorted({round(i * len(ascending) / count) for i in range(count)} & set(range(len(ascending))))
    values = [ascending[position] for position in positions]
    ordered = [values.pop(0)]
    while values:
        farthest = max(values, key=lambda value: min(abs(value - other) for other in ordered))
        values.remove(farthest)
        ordered.append(farthest)
    return ordered


def _run_all(
    runner: SuffixRunner,
    tasks: Sequence[_Task],
    measure: Callable[[SuffixRunner, _Task], float],
    keep: Callable[[_Task, float], None],
    deadline: float | None,
    workers: int | None,
    covered: set[str],
) -> None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = max(1, min(workers or min(cores, MAX_WORKERS), len(tasks)))
    runners: queue.SimpleQueue[SuffixRunner] = queue.SimpleQueue()
    for index in range(count):
        runners.put(runner if index == 0 else runner.twin())

    def work(task: _Task) -> float:
        own = runners.get()
        try:
            return measure(own, task)
        finally:
            runners.put(own)

    waiting = list(reversed(tasks))
    running: dict[Future[float], _Task] = {}
    # Threads of a pool have torch's default count until told otherwise.
    with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            while waiting or running:
                while waiting and len(running) < count:
                    task = waiting.pop()
                    late = deadline is not None and time.monotonic() > deadline
                    if late and task.width and task.group.name in covered:
                        continue
                    covered.add(task.group.name)
                    running[pool.submit(work, task)] = task
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    task = running.pop(future)
                    loss = future.result()
                    if not math.isfinite(loss):
                        raise CalibrationFailed(
                            f"the loss is {loss} when group {task.group.name} keeps {task.width} of "
                            f"{task.group.channels} channels: allow it no width below, or leave the group out"
                        )
                    keep(task, loss)
        finally:
            for future in running:
                future.cancel()


def _complete(group: Group, widths: Sequence[int], measured: Mapping[int, float]) -> dict[int, float]:
    """Fill in what was not measured, monotone in the channels removed.

    A dropped branch (width 0) stands alone: nothing may do less harm than a few channels.
    """
    points = sorted(
        {**{width: loss for width, loss in measured.items() if width}, group.channels: 0.0}.items(), reverse=True
    )
    values: list[float] = []
    for _, loss in points:
        values.append(max(loss, values[-1] if values else 0.0))
    at = [group.channels - width for width, _ in points]
    wanted = sorted({*widths, group.channels} - {0}, reverse=True)
    dropped = {0: max(measured[0], 0.0)} if 0 in measured else {}
    if len(points) == 1:
        return dict.fromkeys(wanted, 0.0) | dropped
    curve = PchipInterpolator(at, values)
    exact = {width: value for (width, _), value in zip(points, values, strict=True)}
    filled: dict[int, float] = {}
    highest = 0.0
    for width in wanted:
        # Pchip keeps the order up to rounding; the running maximum keeps it exactly.
        highest = max(highest, exact[width] if width in exact else float(curve(group.channels - width)))
        filled[width] = highest
    return filled | dropped
