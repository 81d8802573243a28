"""Peak memory as a budget of the plan: the planner's count of it, calibrated on the device."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from host.compress.observer import Observer
from host.search.memory import MemoryModel
from host.search.network import Network, Plan


def learn_memory(
    network: Network, widths: Mapping[str, tuple[int, ...]], peak_of: Callable[[Plan], int | None], observer: Observer
) -> MemoryModel | None:
    """Fit the planner's memory to the peaks (bytes) of the full plan, of the narrowest, and of one between.

    None where the device reports no peak, or peaks that don't rise with the network: then a budget can be judged at the end
    only, and the observer is told.
    """
    observer.stage("measuring how much memory narrower networks take")
    narrow = Plan(kept={name: each[0] for name, each in widths.items()})
    between = Plan(kept={name: each[len(each) // 2] for name, each in widths.items()})
    measured = []
    for number, plan in enumerate((network.full_plan(), narrow, between)):
        observer.step(number, 3)
        peak = peak_of(plan)
        if peak is None:
            observer.note("the device reports no peak memory, so its budget cannot be planned for")
            return None
        measured.append((plan, peak))
    model = MemoryModel.fit(network, measured)
    if model is None:
        observer.note(
            "peak memory does not rise with the network on this device, so its budget cannot be planned for; it is judged at the "
            "end"
        )
    else:
        observer.note(model.line())
    return model
