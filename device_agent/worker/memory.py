"""Where a worker's memory goes, by phase, from the kernel's own high-water mark."""

from __future__ import annotations

import os
from pathlib import Path

from device_agent.contract.measurement import MemoryPhases


class MemoryByPhase:
    """The marks of loading, first run and warm-up, each read at the phase's end. Create it after the runtime's import."""

    def __init__(self, *, alone: bool) -> None:
        """Several models that share the worker cannot be told apart: nothing is measured unless one is `alone`."""
        self._memory = PeakMemory() if alone else None
        self._marks: list[int | None] = []

    def reset(self) -> None:
        """Leave out what came since the last phase."""
        if self._memory is not None:
            self._memory.reset()

    def end_phase(self) -> None:
        """Read the mark of the phase that ends here."""
        if self._memory is not None:
            self._marks.append(self._memory.lap())

    def phases(self) -> MemoryPhases | None:
        """Return the marks after three phases; None for several models, or where the kernel cannot reset its mark."""
        if self._memory is None or self._memory.baseline is None:
            return None
        load, first_run, steady = self._marks
        if load is None or first_run is None or steady is None:
            return None
        return MemoryPhases(
            runtime_bytes=self._memory.baseline, load_bytes=load, first_run_bytes=first_run, steady_bytes=steady
        )


class PeakMemory:
    """The high-water mark of resident memory by phases, as the kernel keeps it (VmHWM).

    Create it after the runtime's import: `baseline` is what is resident then, None where the kernel does not tell. `ru_maxrss` is
    no substitute: a process inherits it through exec.
    """

    def __init__(self, folder: Path = Path("/proc/self")) -> None:
        self._folder = folder
        self._resettable = True
        self.reset()
        self.baseline = _status_bytes(folder, "VmRSS")

    def reset(self) -> None:
        """Set the mark to what is resident now: a phase begins."""
        try:
            descriptor = os.open(self._folder / "clear_refs", os.O_WRONLY)  # never made where the kernel has none
            try:
                os.write(descriptor, b"5")
            finally:
                os.close(descriptor)
        except OSError:
            self._resettable = False

    def lap(self) -> int | None:
        """Return the phase's mark above the baseline and begin another; None where this kernel cannot reset the mark."""
        peak = _status_bytes(self._folder, "VmHWM")
        self.reset()
        if not self._resettable or peak is None or self.baseline is None:
            return None
        return max(0, peak - self.baseline)


def _status_bytes(folder: Path, field: str) -> int | None:
    """Return a field of the process's `status`, which counts in KiB."""
    for line in (folder / "status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    return None
