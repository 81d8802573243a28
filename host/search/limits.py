"""What a plan may cost besides latency: parameters, peak memory, energy; each a quantity with a highest value."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

from host.search.cost import CostModel
from host.search.memory import MemoryModel, memory_bytes
from host.search.network import Network
from host.search.program import Linear, Program
from host.search.solution import TOLERANCE, Price, parameters, parameters_of, price_of, total


@dataclass(frozen=True, slots=True, kw_only=True)
class Budgets:
    """Budgets that stay as they are while the latency is searched for. None: no limit.

    `max_memory_bytes` is on the device's peak as `memory` predicts it, or without one on `memory.memory_bytes`. `energy_ratio` is
    to the baseline's energy per run, by the prices of `energy`.
    """

    max_parameters: int | None = None
    max_memory_bytes: float | None = None
    memory: MemoryModel | None = None
    energy_ratio: float | None = None
    energy: Price | CostModel | None = None

    def __post_init__(self) -> None:
        if (self.energy_ratio is None) != (self.energy is None):
            raise ValueError("an energy budget needs a ratio and the prices that it is judged by")

    def limits(self, network: Network) -> tuple[Limit, ...]:
        """Return the limits that are set."""
        found: list[Limit] = []
        if self.max_parameters is not None:
            found.append(SizeLimit(network, self.max_parameters))
        if self.max_memory_bytes is not None:
            found.append(MemoryLimit(network, self.max_memory_bytes, self.memory))
        if self.energy_ratio is not None and self.energy is not None:
            found.append(EnergyLimit(network, self.energy_ratio, price_of(self.energy)))
        return tuple(found)


class Limit(ABC):
    """A quantity of a plan that may be at most `highest`."""

    name: str

    def __init__(self, network: Network, highest: float) -> None:
        self.network, self.highest = network, highest

    @abstractmethod
    def value(self, plan: Mapping[str, int]) -> float:
        """Return the quantity of a plan, exactly."""

    @abstractmethod
    def expression(self, program: Program) -> Linear:
        """Return the quantity as an expression over the columns of `program`."""

    @abstractmethod
    def words(self, value: float) -> str:
        """Return a value of the quantity in words."""

    def keeps(self, plan: Mapping[str, int]) -> bool:
        """Return whether a plan keeps the limit, up to the solver's rounding."""
        return self.value(plan) <= self.highest * (1 + TOLERANCE)


class SizeLimit(Limit):
    """Parameters."""

    name = "size"

    def value(self, plan: Mapping[str, int]) -> float:
        return parameters(self.network, plan)

    def expression(self, program: Program) -> Linear:
        return program.quantity(parameters_of)

    def words(self, value: float) -> str:
        return f"{value:.0f} parameters"

    def keeps(self, plan: Mapping[str, int]) -> bool:
        return self.value(plan) <= self.highest


class MemoryLimit(Limit):
    """Peak of live activations and weights, in bytes."""

    name = "memory"

    def __init__(self, network: Network, highest: float, model: MemoryModel | None) -> None:
        super().__init__(network, highest if model is None else model.budget(highest))
        self._model = model

    def value(self, plan: Mapping[str, int]) -> float:
        return memory_bytes(self.network, plan)

    def expression(self, program: Program) -> Linear:
        return program.memory()

    def words(self, value: float) -> str:
        if self._model is None:
            return f"{value:.0f} bytes of weights and activations"
        return f"a peak of {self._model.allowed(value) / 2**20:.2f} MiB"


class EnergyLimit(Limit):
    """Energy per run, as a ratio to the baseline's."""

    name = "energy"

    def __init__(self, network: Network, highest: float, price: Price) -> None:
        super().__init__(network, highest)
        self._price = price

    def value(self, plan: Mapping[str, int]) -> float:
        return total(self.network, self._price, plan)

    def expression(self, program: Program) -> Linear:
        return program.quantity(self._price)

    def words(self, value: float) -> str:
        return f"{value:.3f}x of the baseline's energy"


class LatencyLimit(EnergyLimit):
    """Latency, as a ratio to the baseline's."""

    name = "latency"

    def words(self, value: float) -> str:
        return f"{value:.3f}x of the baseline's latency"
