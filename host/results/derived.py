"""Statistics that stand beside the raw samples, so that a list of a million results needs none: a cache, made anew at will."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, or_, select, update

from device_agent.contract.device import DeviceInfo
from device_agent.contract.document import latency_document
from device_agent.contract.energy import energy_of
from device_agent.contract.measurement import Measurement
from device_agent.contract.plain_json import from_json
from host.results import models
from host.results.samples import measurement_of

#: Rises whenever `derived_columns` gives another answer than before; older rows are made anew when a history is migrated.
DERIVED = 1
_BATCH = 200


def derived_columns(measurement: Measurement, device: DeviceInfo, artifact: int) -> dict[str, Any]:
    """Return the derived columns of one artifact's line, by the names in models.MeasuredArtifact.

    Latencies are those of `host bench --json`: p50, p90, p99, min and mean over all timed runs, and the median of the undisturbed
    ones where these are enough. Energy is per run, by the preferred meter, and None where several artifacts shared the worker.
    """
    latency = latency_document(measurement, artifact)
    every, quiet = latency["latency_ns"] or {}, latency["latency_undisturbed_ns"] or {}
    found = measurement.result.artifacts[artifact]
    alone = len(measurement.request.artifacts) == 1
    estimates = energy_of(measurement, device.channels).estimates if alone else ()
    return {
        "derived": DERIVED,
        "runs": latency["runs"],
        "runs_undisturbed": latency["runs_undisturbed"],
        **{f"{name}_ns": every.get(name) for name in ("p50", "p90", "p99", "min", "mean")},
        "undisturbed_p50_ns": quiet.get("p50"),
        "peak_memory_bytes": found.peak_memory_bytes,
        "peak_rss_bytes": found.peak_rss_bytes,
        "energy_gross_j": estimates[0].gross_j if estimates else None,
        "energy_net_j": estimates[0].net_j if estimates else None,
    }


def refresh(connection: Connection, *, everything: bool = False, on_done: Callable[[int], None] | None = None) -> int:
    """Make the derived columns of all lines that have none of this version, in the connection's transaction; return how many.

    `everything` makes all anew. `on_done` is called with the lines done so far. Raises SamplesCorrupt.
    """
    lines, whole = models.MeasuredArtifact, models.Measurement
    done, after = 0, 0
    behind = or_(lines.derived.is_(None), lines.derived != DERIVED)
    while True:
        wanted = select(lines.measurement_id).where(lines.measurement_id > after).distinct()
        if not everything:
            wanted = wanted.where(behind)
        numbers = connection.execute(wanted.order_by(lines.measurement_id).limit(_BATCH)).scalars().all()
        if not numbers:
            return done
        for row in connection.execute(
            select(
                whole.id, whole.request, whole.result, whole.runs, whole.reading_names, whole.readings,
                models.DeviceEnvironment.info,
            )
            .join(models.DeviceEnvironment, models.DeviceEnvironment.id == whole.device_environment_id)
            .where(whole.id.in_(numbers))
        ).all():  # fmt: skip
            measurement = measurement_of(row)
            device = from_json(DeviceInfo, row.info)
            for position in range(len(measurement.request.artifacts)):
                connection.execute(
                    update(lines)
                    .where(lines.measurement_id == row.id, lines.position == position)
                    .values(derived_columns(measurement, device, position))
                )
                done += 1
        after = numbers[-1]
        if on_done is not None:
            on_done(done)
