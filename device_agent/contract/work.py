"""Which stretch of a job its energy belongs to, and how many runs were made in it. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass

from device_agent.contract.alignment import Edge
from device_agent.contract.integrate import NoFigure
from device_agent.contract.measurement import Measurement, RunKind, Window, WindowKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """The timed window with its runs, and the rests around it; times in seconds since `origin_ns`, None without that rest.

    `runs` includes those of a soak that were only counted. `note` says what was left out.
    """

    origin_ns: int
    start_s: float
    end_s: float
    runs: int
    before: tuple[float, float] | None
    after: tuple[float, float] | None
    note: str | None

    @classmethod
    def of(cls, measurement: Measurement) -> Work:
        """Return the work of a measurement; NoFigure if its energy cannot be told from that of other work."""
        artifacts = len(measurement.request.artifacts)
        if artifacts > 1:
            raise NoFigure(
                f"{artifacts} artifacts ran in turns, too short for a power sensor to tell them apart; measure one alone"
            )
        windows = measurement.result.windows
        timed = [window for window in windows if window.kind is WindowKind.TIMED]
        if len(timed) != 1:
            raise NoFigure(f"the record has {len(timed)} timed windows and not one; measure again with a current agent")
        start_ns, end_ns = timed[0].start_ns, timed[0].end_ns
        # Profiled twins take turns with the plain session in the beginning; what follows them is plain.
        profiled = [
            run.start_ns + run.latency_ns
            for run in measurement.runs
            if run.kind is RunKind.PROFILED and start_ns <= run.start_ns < end_ns
        ]
        plain_ns = max(profiled, default=start_ns)
        runs = sum(
            run.kind in (RunKind.TIMED, RunKind.SETTLING) and plain_ns <= run.start_ns < end_ns
            for run in measurement.runs
        )
        runs += measurement.result.artifacts[0].unrecorded_runs
        if not runs or end_ns <= plain_ns:
            raise NoFigure("no plain run lies in the timed window; measure without the layers' times")

        def span(kind: WindowKind) -> tuple[float, float] | None:
            found = next((window for window in windows if window.kind is kind), None)
            return None if found is None or found.end_ns <= found.start_ns else _seconds(found, start_ns)

        return cls(
            origin_ns=start_ns,
            start_s=(plain_ns - start_ns) / 1e9,
            end_s=(end_ns - start_ns) / 1e9,
            runs=runs,
            before=span(WindowKind.IDLE_BEFORE),
            after=span(WindowKind.IDLE_AFTER),
            note="without the first part, in which layers were timed" if profiled else None,
        )

    def edges(self) -> tuple[Edge, ...]:
        """Return the changes between rest and load: warm-up follows the first rest at once, and the timed part ends in rest."""
        busy_from = self.start_s if self.before is None else self.before[1]
        busy_s = max(0.0, self.end_s - busy_from)
        found: list[Edge] = []
        if self.before is not None:
            rest_s = self.before[1] - self.before[0]
            found.append(Edge(time_s=self.before[1], rising=True, before_s=rest_s, after_s=busy_s))
        if self.after is not None:
            found.append(
                Edge(time_s=self.end_s, rising=False, before_s=busy_s, after_s=max(0.0, self.after[1] - self.end_s))
            )
        return tuple(found)


def _seconds(window: Window, origin_ns: int) -> tuple[float, float]:
    return (window.start_ns - origin_ns) / 1e9, (window.end_ns - origin_ns) / 1e9
