"""The processes of one training: who they are, which rows are whose, and what they tell each other.

One process needs none of this: `ALONE` answers every question at no cost.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn

from host.compress.history import TrainingError

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """This process among `size` of them; `rank` counts from 0, `local_rank` those of this machine. Rank 0 is the chief."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def chief(self) -> bool:
        """Whether this process writes files and speaks for all."""
        return self.rank == 0

    def device(self, home: torch.device) -> torch.device:
        """This process's GPU, or `home` on a machine without any."""
        if not torch.cuda.is_available():
            return home
        return torch.device("cuda", self.local_rank) if self.size > 1 else torch.device("cuda")

    def share(self, count: int) -> slice:
        """This process's rows of a batch of `count`; shares differ by one at most."""
        return slice(count * self.rank // self.size, count * (self.rank + 1) // self.size)

    def sums(self, values: Sequence[float], device: torch.device) -> list[float]:
        """Each value summed over all processes."""
        if self.size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64, device=device)
        dist.all_reduce(total)
        return [float(value) for value in total.tolist()]

    def from_chief(self, value: T) -> T:
        """The chief's value, in every process."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.size > 1:
            dist.barrier()

    def wrap(self, module: nn.Module, device: torch.device) -> nn.Module:
        """The module with gradients averaged over all processes, and weights as the chief's."""
        if self.size == 1:
            return module
        # A copy of small gradients, whose layout follows the images'.
        warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
        return nn.parallel.DistributedDataParallel(module, device_ids=[device] if device.type == "cuda" else None)


ALONE = World()


def launched() -> bool:
    """Whether torchrun started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ


@contextmanager
def joined(world: World | None = None, *, meeting_file: Path | None = None) -> Iterator[World]:
    """Join the other processes until the block ends: NCCL where there are GPUs, gloo elsewhere.

    By default this process is who torchrun says, alone without it; with `world` it is that one, and all meet at `meeting_file`.
    Raises TrainingError where there are fewer GPUs than processes.
    """
    if world is None:
        if not launched():
            yield ALONE
            return
        world = World(
            rank=int(os.environ["RANK"]),
            size=int(os.environ["WORLD_SIZE"]),
            local_rank=int(os.environ.get("LOCAL_RANK", "0")),
        )
    if torch.cuda.is_available():
        if world.local_rank >= torch.cuda.device_count():
            raise TrainingError(
                f"process {world.local_rank + 1} of this machine has no GPU of its own: there are {torch.cuda.device_count()}. "
                f"Start at most as many processes as there are GPUs"
            )
        torch.cuda.set_device(world.local_rank)
    place = "env://" if meeting_file is None else meeting_file.as_uri()
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, init_method=place, rank=world.rank, world_size=world.size)
    yield world
    # Not after an error: the others may wait in an exchange that never comes, and this process ends anyway.
    dist.destroy_process_group()
