"""Rows that others refer to: environments are kept once, found by the digest of their JSON form."""

from __future__ import annotations

import hashlib
import json
from typing import Any, TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from device_agent.contract.device import DeviceInfo
from device_agent.contract.plain_json import to_json
from host.results import models
from host.results.environment import host_environment

_E = TypeVar("_E", models.DeviceEnvironment, models.HostEnvironment)


def device_row(session: Session, device: DeviceInfo) -> models.DeviceEnvironment:
    """Return the row of what a device said of itself."""
    return _row_of(
        session, models.DeviceEnvironment, to_json(device), device_id=device.device_id, profile=device.profile
    )


def host_row(session: Session) -> models.HostEnvironment:
    """Return the row of this host."""
    return _row_of(session, models.HostEnvironment, host_environment())


def _row_of(session: Session, kind: type[_E], info: dict[str, Any], **columns: Any) -> _E:
    digest = hashlib.sha256(json.dumps(info, sort_keys=True).encode()).hexdigest()
    row = session.scalars(select(kind).where(kind.digest == digest)).one_or_none()
    if row is None:
        row = kind(digest=digest, info=info, **columns)
        session.add(row)
        session.flush()
    return row
