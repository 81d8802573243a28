"""The methods of the comparison by name, each a function (trial, target) -> Pruned that may raise OutOfReach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module, util

from benchmarks.rivals.trial import Pruned, Trial

OURS = "ours"
INSTALL = "pip install 'boardfit[rivals]'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """`where` is module:function below benchmarks.rivals. `needs`: the packages of the extra that it imports.

    `tuned`: the function has spent the fine-tuning budget itself.
    """

    name: str
    title: str
    where: str
    arguments: tuple[tuple[str, object], ...] = ()
    needs: tuple[str, ...] = ()
    tuned: bool = False

    def missing(self) -> str | None:
        """Return the command that installs what is missing; None if nothing is."""
        return None if all(util.find_spec(name) is not None for name in self.needs) else INSTALL

    def function(self) -> Callable[[Trial, float], Pruned]:
        module, _, name = self.where.partition(":")
        return partial(getattr(import_module(f"benchmarks.rivals.{module}"), name), **dict(self.arguments))


def _torch_pruning(name: str, title: str, criterion: str, everywhere: bool) -> Method:
    return Method(
        name=name,
        title=f"Torch-Pruning, {title}",
        where="torch_pruning:torch_pruning",
        arguments=(("criterion", criterion), ("everywhere", everywhere)),
        needs=("torch_pruning",),
    )


#: In the order in which the cells of one net, target and seed are filled.
METHODS = {
    method.name: method
    for method in (
        Method(name="uniform", title="uniform width", where="planned:uniform_width"),
        _torch_pruning("tp-global-taylor", "global, Taylor", "taylor", True),
        Method(name="macs", title="our planner on MACs", where="planned:macs_driven"),
        _torch_pruning("tp-uniform-l2", "uniform, l2", "l2", False),
        Method(name="halp", title="HALP-style knapsack", where="halp:halp", tuned=True),
        Method(name="netadapt", title="NetAdapt", where="netadapt:netadapt", tuned=True),
        Method(
            name="fastnas",
            title="ModelOpt FastNAS",
            where="fastnas:fastnas",
            needs=("modelopt", "requests", "huggingface_hub", "torchprofile"),
        ),
        _torch_pruning("tp-global-l2", "global, l2", "l2", True),
        _torch_pruning("tp-uniform-taylor", "uniform, Taylor", "taylor", False),
        Method(name=OURS, title="host compress", where="ours:ours", tuned=True),
    )
}
