"""How a measurement becomes rows: what takes time is prepared first, so that the transaction is short."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from sqlalchemy import Connection, insert

from device_agent.contract.device import DeviceInfo
from device_agent.contract.measurement import Measurement
from device_agent.contract.plain_json import to_json
from host.results import models
from host.results.derived import derived_columns
from host.results.rows import EnvironmentFacts, artifact_rows, device_facts, device_row, host_facts, host_row
from host.results.samples import pack_readings, pack_runs

_WHOLE: Any = models.Measurement.__table__
_LINES: Any = models.MeasuredArtifact.__table__
# Made once: making a statement takes longer than running it.
_INSERT_WHOLE = insert(_WHOLE).returning(_WHOLE.c.id)
_INSERT_LINES = insert(_LINES)


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedMeasurement:
    """A measurement in columns. `lines` are those of its artifacts, in their order."""

    whole: Mapping[str, Any]
    lines: tuple[Mapping[str, Any], ...]
    device: EnvironmentFacts
    host: EnvironmentFacts = field(default_factory=host_facts)

    @classmethod
    def of(
        cls,
        measurement: Measurement,
        *,
        device: DeviceInfo,
        artifact_names: Sequence[str],
        device_name: str | None = None,
    ) -> PreparedMeasurement:
        """Pack a measurement that ends now. Names are in the order of the request; ValueError if their number differs."""
        request, result = measurement.request, measurement.result
        if len(artifact_names) != len(request.artifacts):
            raise ValueError(f"{len(artifact_names)} names were given for {len(request.artifacts)} artifacts")
        reading_names, readings = pack_readings(measurement.readings)
        shared = {
            "created_at": datetime.now(timezone.utc),
            "runtime": result.runtime,
            "runtime_version": result.runtime_version,
            "threads": result.threads,
        }
        return cls(
            whole={
                **shared,
                "uuid": uuid.uuid4().hex,
                "request": to_json(request),
                "result": to_json(result),
                "runs": pack_runs(measurement.runs),
                "reading_names": reading_names,
                "readings": readings,
            },
            lines=tuple(
                {
                    **shared,
                    "position": position,
                    "sha256": sha256,
                    "name": name,
                    "verdicts": [verdict.code.value for verdict in found.verdicts],
                    "device_id": device.device_id,
                    "device_name": device_name,
                    "together": len(request.artifacts),
                    **derived_columns(measurement, device, position),
                }
                for position, (sha256, name, found) in enumerate(
                    zip(request.artifacts, artifact_names, result.artifacts, strict=True)
                )
            ),
            device=device_facts(device),
        )

    def insert(self, connection: Connection, *, sweep_id: int | None = None) -> int:
        """Write all rows in the connection's transaction; return the measurement's id."""
        artifact_rows(connection, {line["sha256"]: line["name"] for line in self.lines})
        environment = device_row(connection, self.device)
        whole = {
            **self.whole,
            "device_environment_id": environment,
            "host_environment_id": host_row(connection, self.host),
        }
        number = int(connection.execute(_INSERT_WHOLE, whole).scalar_one())
        fixed = {"measurement_id": number, "device_environment_id": environment, "sweep_id": sweep_id}
        connection.execute(_INSERT_LINES, [{**line, **fixed} for line in self.lines])
        return number
