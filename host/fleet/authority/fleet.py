"""Between the authority and the list of devices: registering who joined, telling a further host, telling who was revoked."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from device_agent.contract.errors import BoardfitError, InvalidRequest
from device_agent.contract.joining import Grant, JoinRequest, KnownDevice
from host.fleet import identity, renewal
from host.fleet.channel import check_address
from host.fleet.client import AgentClient
from host.fleet.devices import connect
from host.fleet.inventory import Inventory, RegisteredDevice

_THREADS = 32
_TIMEOUT_S = 5.0


class Registrar:
    """Gives boards that join their place in the list of devices. `name` is None for the board's own host name."""

    def __init__(self, inventory: Inventory, *, name: str | None = None, force: bool = False) -> None:
        if name is not None:
            RegisteredDevice(name=name, address="unknown")  # raises InvalidDeviceName before anybody waits
        self._inventory = inventory
        self._name = name
        self._force = force

    def bound_to(self) -> RegisteredDevice | None:
        """Return the device that has the wished name, if only that one may join under it."""
        if self._name is None or self._force:
            return None
        known = next((one for one in self._inventory.devices() if one.name == self._name), None)
        return None if known is None or known.device_id is None else known

    def name_for(self, request: JoinRequest) -> str:
        """Return what the board will be called. Raises InvalidRequest if the name or the board is somebody else's already."""
        devices = {device.name: device for device in self._inventory.devices()}
        same = [one.name for one in devices.values() if one.device_id == request.device_id]
        if self._name is None:
            return same[0] if same else _free_name(request.hostname, devices)
        taken = devices.get(self._name)
        if taken is not None and taken.device_id not in (None, request.device_id) and not self._force:
            raise InvalidRequest(
                f"on the host {self._name!r} is another device, at {taken.address}. There, start `host enroll` again with "
                "another --name, or with --force to replace that device, and join with the new code."
            )
        if same and self._name not in same:
            raise InvalidRequest(
                f"this board is registered as {same[0]!r} already (device id {request.device_id}). On the host, enroll it under "
                f"that name, or `host devices remove {same[0]}` first. If it is another board with a copied card: delete the "
                "file device-id in its store and join again."
            )
        return self._name

    def register(self, known_as: str, request: JoinRequest, grant: Grant) -> None:
        """Put the board into the list, with the tags that it had."""
        known = next((one for one in self._inventory.devices() if one.name == known_as), None)
        assert request.address is not None
        device = RegisteredDevice(
            name=known_as,
            address=check_address(request.address),
            device_id=request.device_id,
            profile=request.profile,
            tags=known.tags if known is not None else (),
            tls_name=grant.name,
            tls_ca=identity.fingerprint(grant.authority_pem),
        )
        self._inventory.add(device, replace=True)


def known_devices(inventory: Inventory, authority_pem: str) -> tuple[KnownDevice, ...]:
    """Return the devices that have joined this authority, for a further host."""
    ours = identity.fingerprint(authority_pem)
    return tuple(
        KnownDevice(
            name=device.name,
            address=device.address,
            device_id=device.device_id,
            profile=device.profile,
            tags=device.tags,
            tls_name=device.tls_name,
        )
        for device in inventory.devices()
        if device.tls_name is not None and device.tls_ca == ours
    )


def add_known(inventory: Inventory, grant: Grant) -> tuple[list[str], list[str]]:
    """Register the devices of a fleet that this host has joined; return (names added, names that others have here)."""
    added, left_out = [], []
    here = {device.name: device for device in inventory.devices()}
    for device in grant.devices:
        known = here.get(device.name)
        if known is not None and known.device_id != device.device_id:
            left_out.append(device.name)
            continue
        registered = RegisteredDevice(
            name=device.name,
            address=device.address,
            device_id=device.device_id,
            profile=device.profile,
            tags=known.tags if known is not None else device.tags,
            tls_name=device.tls_name,
            tls_ca=identity.fingerprint(grant.authority_pem),
        )
        inventory.add(registered, replace=True)
        added.append(device.name)
    return added, left_out


def tell_all(inventory: Inventory) -> tuple[tuple[str, ...], dict[str, str]]:
    """Tell every device that has joined who was revoked; return (those told, why the others were not). Revoked ones are not
    told.
    """
    own = identity.load_own()
    revoked = frozenset() if own is None else own.revocations.read().names
    joined = [one for one in inventory.devices() if one.tls_name is not None and one.tls_name not in revoked]
    return _each(joined, renewal.exchange_revocations)


def renew_all(devices: Iterable[RegisteredDevice]) -> tuple[tuple[str, ...], dict[str, str]]:
    """Renew the certificates of those devices that have joined; return (those renewed, why the others were not)."""

    def renew(client: AgentClient) -> None:
        renewal.renew(client, always=True)

    return _each([one for one in devices if one.tls_name is not None], renew)


def _each(
    devices: list[RegisteredDevice], act: Callable[[AgentClient], None]
) -> tuple[tuple[str, ...], dict[str, str]]:
    def one(device: RegisteredDevice) -> str | None:
        try:
            with connect(device, timeout_s=_TIMEOUT_S) as client:
                act(client)
        except BoardfitError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(max_workers=min(_THREADS, len(devices)) or 1) as pool:
        said = dict(zip((device.name for device in devices), pool.map(one, devices), strict=True))
    return tuple(name for name, why in said.items() if why is None), {
        name: why for name, why in said.items() if why is not None
    }


def _free_name(hostname: str, taken: Iterable[str]) -> str:
    """Return the host name as a device's name; with a number where another board has it, as boards of one image do."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", hostname).strip("-._")[:50] or "board"
    others = {*taken, "local", "all"}
    return next(each for each in (name, *(f"{name}-{number}" for number in range(2, 10_000))) if each not in others)
