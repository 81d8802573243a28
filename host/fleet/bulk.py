"""Many devices at once: ask them all what they are, and register those of a list in one write."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from device_agent.contract.errors import BoardfitError, InvalidRequest
from host.fleet.inventory import InvalidDeviceName, Inventory, RegisteredDevice, second_name

if TYPE_CHECKING:
    from device_agent.contract.device import DeviceInfo

#: Calls at a time. Three hundred agents on loopback answer 32 and 64 threads in the same second.
THREADS = 64
COLUMNS = ("name", "address", "tags")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a device said when it was asked what it is, or why it did not."""

    device: RegisteredDevice
    said: DeviceInfo | BoardfitError

    @property
    def info(self) -> DeviceInfo | None:
        """What it is, None where it did not answer."""
        return None if isinstance(self.said, BoardfitError) else self.said


def ask_all(
    devices: Sequence[RegisteredDevice], *, timeout_s: float = 10.0, find_tls: bool = False
) -> tuple[Answer, ...]:
    """Ask all devices what they are, many at a time, and return the answers in the same order. Raises nothing.

    With `find_tls` a device that speaks TLS is found out, as devices.identify does.
    """
    from host.fleet.devices import connect, identify

    def ask(device: RegisteredDevice) -> Answer:
        try:
            if find_tls:
                device, info = identify(device, timeout_s=timeout_s)
                return Answer(device=device, said=info)
            with connect(device, timeout_s=timeout_s) as client:
                return Answer(device=device, said=client.describe())
        except BoardfitError as error:
            return Answer(device=device, said=error)

    with ThreadPoolExecutor(max_workers=min(THREADS, len(devices)) or 1) as pool:
        return tuple(pool.map(ask, devices))


def add_all(
    inventory: Inventory, devices: Sequence[RegisteredDevice], *, force: bool = False, timeout_s: float = 10.0
) -> tuple[Answer, ...]:
    """Ask all devices what they are and register those that answered; with `force` also those that did not.

    A device that is known under its name at the same address is asked again; one at another address raises InvalidDeviceName
    before any is asked, unless `force`. A board that is registered under a name that is not in the list is left out, its answer
    InvalidDeviceName, unless `force`. Those that were known keep their tags where the list gives none. The answers have
    the devices as they were registered. Two devices that turn out to be the same board raise InvalidDeviceName, and nothing
    is registered.
    """
    known = {device.name: device for device in inventory.devices()}
    moved = [one for one in devices if one.name in known and known[one.name].address != one.address]
    if moved and not force:
        said = ", ".join(f"{one.name} (at {known[one.name].address}, not {one.address})" for one in moved[:5])
        raise InvalidDeviceName(
            f"{len(moved)} of the names are taken: {said}. Rename them, remove the old ones with `host devices remove NAME`, "
            "or replace them all with --force."
        )
    devices = [_with_tls_of(known.get(device.name), device) for device in devices]
    answers = ask_all(devices, timeout_s=timeout_s, find_tls=True)
    _check_boards(answers)
    told = tuple(_told(answer, known.get(answer.device.name)) for answer in answers)
    if not force:
        then = {**known, **{answer.device.name: answer.device for answer in told if answer.info is not None}}
        told = tuple(replace(one, said=second_name(one.device, then.values()) or one.said) for one in told)
    inventory.put(answer.device for answer in told if force or answer.info is not None)
    return told


def _with_tls_of(known: RegisteredDevice | None, device: RegisteredDevice) -> RegisteredDevice:
    """Return the device so that it is never spoken to without TLS if it has joined, unless it is removed first."""
    return device if known is None else replace(device, tls_name=known.tls_name, tls_ca=known.tls_ca)


def _told(answer: Answer, known: RegisteredDevice | None) -> Answer:
    device, info = answer.device, answer.info
    if known is not None and not device.tags:
        device = replace(device, tags=known.tags)
    if info is not None:
        device = replace(device, device_id=info.device_id, profile=info.profile)
    return replace(answer, device=device)


def _check_boards(answers: Iterable[Answer]) -> None:
    found: dict[str, RegisteredDevice] = {}
    for answer in answers:
        if answer.info is not None:
            other = found.setdefault(answer.info.device_id, answer.device)
            if other is not answer.device:
                raise InvalidDeviceName(
                    f"{other.name} ({other.address}) and {answer.device.name} ({answer.device.address}) are the same board "
                    f"(device id {answer.info.device_id}), or were made from one image with one store. Leave one of them out, or "
                    "delete the file device-id from the copied store and restart that agent."
                )


def read_list(path: Path) -> tuple[RegisteredDevice, ...]:
    """Read devices from a CSV file with the columns name, address and, if wanted, tags (separated by spaces).

    Raises InvalidRequest with the line for what is not one, InvalidDeviceName, InvalidTag.
    """
    from host.fleet.channel import check_address

    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            heads = tuple(head.strip() for head in reader.fieldnames or ())
            if set(heads) - set(COLUMNS) or not {"name", "address"} <= set(heads):
                raise InvalidRequest(
                    f"{path}: the first line must name the columns, such as name,address,tags; it has {','.join(heads) or 'none'}"
                )
            reader.fieldnames = heads
            devices: dict[str, RegisteredDevice] = {}
            for row in reader:
                where = f"{path}, line {reader.line_num}"
                name, address = ((row[key] or "").strip() for key in ("name", "address"))
                if not name or not address or row.get(None) is not None:
                    raise InvalidRequest(f"{where}: a line has as many fields as the first, with a name and an address")
                if name in devices:
                    raise InvalidRequest(f"{where}: {name!r} stands in the file twice")
                tags = tuple((row.get("tags") or "").split())
                try:
                    devices[name] = RegisteredDevice(name=name, address=check_address(address), tags=tags)
                except BoardfitError as error:
                    raise type(error)(f"{where}: {error}") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidRequest(f"cannot read the list of devices {path}: {error}") from error
    if not devices:
        raise InvalidRequest(f"{path} has no devices below its first line")
    return tuple(devices.values())
