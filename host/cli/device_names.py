"""Devices of the history under the names that they go by on this host."""

from __future__ import annotations

from typing import TYPE_CHECKING

from host.fleet.inventory import Inventory
from host.fleet.selectors import LOCAL, UnknownDevice

if TYPE_CHECKING:
    from host.results.store import ResultStore


class DeviceNames:
    """Names of devices by their ids, from the inventory; it is read once."""

    def __init__(self, inventory: Inventory | None = None) -> None:
        self._inventory = inventory or Inventory()
        self._names = {
            device.device_id: device.name for device in self._inventory.devices() if device.device_id is not None
        }

    def name(self, device_id: str, stored: str | None = None) -> str:
        """Return the registered name, else the one that it had when it was measured, else the beginning of its id."""
        return self._names.get(device_id) or stored or device_id[:12]

    def ids(self, store: ResultStore, selector: str) -> tuple[str, ...]:
        """Return the ids of the devices that a selector means.

        One that the inventory does not know may be a name, an id or the only profile of devices in the history. UnknownDevice.
        """
        if selector != LOCAL:
            try:
                found = tuple(
                    device.device_id for device in self._inventory.select(selector) if device.device_id is not None
                )
                if found:
                    return found
                raise UnknownDevice(
                    f"{selector!r} means devices whose agents were never asked who they are; `host devices info NAME` asks one"
                )
            except UnknownDevice:
                if ids := _in_history(store, selector):
                    return ids
                raise
        ids = _in_history(store, selector)
        if not ids:
            raise UnknownDevice(
                "the history has no results of the local device; `host bench MODEL --device local` makes some"
            )
        return ids


def _in_history(store: ResultStore, word: str) -> tuple[str, ...]:
    from sqlalchemy import or_, select

    from host.results import models

    device, line = models.DeviceEnvironment, models.MeasuredArtifact
    profile = word.removeprefix("profile:")
    with store.reading() as session:
        known = session.scalars(
            select(device.device_id).where(or_(device.device_id == word, device.profile == profile)).distinct()
        ).all()
        if known:
            return tuple(known)
        named = select(line.device_id).where(line.device_name == word)
        # The newest lines tell what a device is called now; the column has no index.
        return tuple(
            dict.fromkeys(
                session.scalars(named.order_by(line.created_at.desc(), line.measurement_id.desc()).limit(200))
            )
        )
