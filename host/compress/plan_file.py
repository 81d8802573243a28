"""plan.json: which channels are kept, by group. A value that can be looked at, compared, and cut again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from device_agent.contract.errors import InvalidRequest, StableError
from host.files import write_whole

if TYPE_CHECKING:
    from host.search.network import Network

SCHEMA = 1


class PlanMismatch(StableError):
    """The plan was made for another network."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanFile:
    """Kept indices by group, ascending, in the original's coordinates, none of a dropped branch; `channels` are the original's.

    `latency_ratio` is what the plan measured where it was made, `target` (`ratio` or `latency_ns`, and `percentile`) what it was
    made for. `input_size` (height, width) is that of the images, None for the model's own.
    """

    model: str
    weights: str
    channels: Mapping[str, int]
    kept: Mapping[str, tuple[int, ...]]
    target: Mapping[str, Any]
    latency_ratio: float | None
    input_size: tuple[int, int] | None = None

    def write(self, path: Path) -> None:
        """Write plan.json, one group a line. Raises CannotWrite."""
        head = {
            "schema": SCHEMA,
            "model": self.model,
            "weights": self.weights,
            "target": dict(self.target),
            "latency_ratio": self.latency_ratio,
            **({} if self.input_size is None else {"input_size": list(self.input_size)}),
        }
        groups = ",\n".join(
            "    " + json.dumps({"name": name, "channels": count, "kept": list(self.kept[name])})
            for name, count in self.channels.items()
        )
        text = json.dumps(head, indent=2)[:-2] + f',\n  "groups": [\n{groups}\n  ]\n}}\n'
        write_whole(path, text.encode())

    def check(self, network: Network) -> None:
        """Raise PlanMismatch, with the groups in question, unless the plan is one of `network`."""
        found = {group.name: group.channels for group in network.groups}
        if found == dict(self.channels):
            stay = {branch.group for branch in network.branches}
            empty = [name for name, indices in self.kept.items() if not indices and name not in stay]
            if empty:
                raise PlanMismatch(
                    f"the plan keeps nothing of {', '.join(empty)}, and no branch of the network goes with it"
                )
            return
        names = sorted(name for name in {*found, *self.channels} if found.get(name) != self.channels.get(name))
        raise PlanMismatch(
            f"the plan was made for another network: it has other groups or channels at {', '.join(names[:5])}"
            f"{' and others' if len(names) > 5 else ''}. Replay it with the model it was made for ({self.model})"
        )


def read_plan(path: Path) -> PlanFile:
    """Read plan.json. InvalidRequest where it is none, or its indices do not fit its channels."""
    try:
        document = json.loads(path.read_bytes())
        groups = document["groups"]
        plan = PlanFile(
            model=str(document["model"]),
            weights=str(document["weights"]),
            channels={str(each["name"]): int(each["channels"]) for each in groups},
            kept={str(each["name"]): tuple(int(index) for index in each["kept"]) for each in groups},
            target=dict(document["target"]),
            latency_ratio=document["latency_ratio"],
            input_size=_size_in(document),
        )
        schema = document["schema"]
    except OSError as error:
        raise InvalidRequest(f"cannot read the plan {path}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidRequest(
            f"{path} is no plan of host compress ({type(error).__name__}: {error}); name the plan.json in its results"
        ) from error
    if schema != SCHEMA:
        raise InvalidRequest(f"{path} has schema {schema}, this version of Boardfit reads {SCHEMA}")
    for name, indices in plan.kept.items():
        _check_indices(path, name, indices, plan.channels[name])
    return plan


def _size_in(document: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return the images' size; a plan for the model's own has none."""
    if document.get("input_size") is None:
        return None
    height, width = document["input_size"]
    return int(height), int(width)


def _check_indices(path: Path, name: str, indices: Sequence[int], channels: int) -> None:
    if list(indices) != sorted(set(indices)) or any(not 0 <= index < channels for index in indices):
        raise InvalidRequest(f"{path}: group {name} must keep ascending indices within 0 - {channels - 1}")


def digest(path: Path) -> str:
    """Return what identifies the file's content."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise InvalidRequest(f"cannot read the plan {path}: {error.strerror or error}") from error
