"""Rows that others refer to, environments and artifacts: kept once, whoever writes them first."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, bindparam, select, update
from sqlalchemy.dialects import postgresql, sqlite

from device_agent.contract.device import DeviceInfo
from device_agent.contract.plain_json import to_json
from host.results import models
from host.results.environment import host_environment

_Environments = type[models.DeviceEnvironment] | type[models.HostEnvironment]
# Made once: making a statement takes longer than running it.
_ARTIFACTS = select(models.Artifact.__table__.c.sha256, models.Artifact.__table__.c.name).where(
    models.Artifact.__table__.c.sha256.in_(bindparam("hashes", expanding=True))
)
_ENVIRONMENTS: dict[_Environments, Any] = {
    kind: select(kind.__table__.c.id).where(kind.__table__.c.digest == bindparam("digest"))
    for kind in (models.DeviceEnvironment, models.HostEnvironment)
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentFacts:
    """An environment ready to be stored: its JSON form and the digest by which it is found again."""

    digest: str
    info: Mapping[str, Any]

    @classmethod
    def of(cls, info: Mapping[str, Any]) -> EnvironmentFacts:
        """Take an environment in its JSON form."""
        return cls(digest=hashlib.sha256(json.dumps(info, sort_keys=True).encode()).hexdigest(), info=info)


@lru_cache(maxsize=512)
def device_facts(device: DeviceInfo) -> EnvironmentFacts:
    """Return what a device said of itself."""
    return EnvironmentFacts.of(to_json(device))


@lru_cache(maxsize=1)
def host_facts() -> EnvironmentFacts:
    """Return what this host is; it does not change while the process runs."""
    return EnvironmentFacts.of(host_environment())


def device_row(connection: Connection, facts: EnvironmentFacts) -> int:
    """Return the number of a device's environment, stored if it is new."""
    columns = {"device_id": facts.info["device_id"], "profile": facts.info["profile"]}
    return _environment_row(connection, models.DeviceEnvironment, facts, columns)


def host_row(connection: Connection, facts: EnvironmentFacts) -> int:
    """Return the number of a host's environment, stored if it is new."""
    return _environment_row(connection, models.HostEnvironment, facts, {})


def artifact_rows(connection: Connection, names: Mapping[str, str]) -> None:
    """Keep artifacts, hash -> name, under the names that they have now."""
    rows = connection.execute(_ARTIFACTS, {"hashes": list(names)})
    known = {row.sha256: row.name for row in rows}
    # In order of the hashes, so that two writers never wait for each other.
    for sha256 in sorted(names):
        if sha256 not in known:
            insert_new(connection, models.Artifact, {"sha256": sha256, "name": names[sha256]})
        elif known[sha256] != names[sha256]:
            artifact = models.Artifact
            connection.execute(update(artifact).where(artifact.sha256 == sha256).values(name=names[sha256]))


def insert_new(connection: Connection, table: type[models.Base], values: Mapping[str, Any]) -> None:
    """Insert a row unless there is one of the same key, from whomever."""
    insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    connection.execute(insert(table).values(values).on_conflict_do_nothing())


def _environment_row(
    connection: Connection, kind: _Environments, facts: EnvironmentFacts, columns: Mapping[str, Any]
) -> int:
    wanted = _ENVIRONMENTS[kind]
    found = connection.execute(wanted, {"digest": facts.digest}).scalar()
    if found is None:
        insert_new(connection, kind, {"digest": facts.digest, "info": facts.info, **columns})
        found = connection.execute(wanted, {"digest": facts.digest}).scalar_one()
    return int(found)
