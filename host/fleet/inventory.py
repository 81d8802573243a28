"""The devices that a user has registered: one JSON file in the configuration folder."""

from __future__ import annotations

import fcntl
import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from device_agent.contract.errors import StableError
from host.fleet import selectors
from host.fleet.selectors import ALL as ALL
from host.fleet.selectors import LOCAL as LOCAL
from host.fleet.selectors import InvalidTag
from host.fleet.selectors import UnknownDevice as UnknownDevice

SCHEMA = 1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


class InvalidDeviceName(StableError):
    """The name cannot be given to a device, or is taken."""


class InventoryCorrupt(StableError):
    """The inventory file cannot be read as one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredDevice:
    """A name for an address. `device_id` and `profile` are what the agent there last said, None if it was never asked.

    `tags` are the user's own words for groups of devices, in alphabetical order. `tls_name` is the name in the certificate of a
    device that has joined (then nothing goes there but TLS), `tls_ca` the fingerprint of the authority that it joined.
    """

    name: str
    address: str
    device_id: str | None = None
    profile: str | None = None
    tags: tuple[str, ...] = ()
    tls_name: str | None = None
    tls_ca: str | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name) or self.name in (LOCAL, ALL):
            raise InvalidDeviceName(
                f"{self.name[:80]!r} cannot be the name of a device: use 1 to 63 letters, digits, dots, dashes and "
                f"underscores, a letter or digit first, and not {LOCAL!r}, which is always this machine, nor {ALL!r}"
            )
        object.__setattr__(self, "tags", tuple(sorted({selectors.check_tag(tag) for tag in self.tags})))


def second_name(device: RegisteredDevice, registered: Iterable[RegisteredDevice]) -> InvalidDeviceName | None:
    """Return the error for a board that is registered under another name, by its device id; None if it is not."""
    other = next(
        (one for one in registered if one.device_id == device.device_id is not None and one.name != device.name), None
    )
    if other is None:
        return None
    return InvalidDeviceName(
        f"the board at {device.address} is registered as {other.name!r} already, at {other.address} (device id "
        f"{other.device_id}), and its history would go by two names. Use that name, or `host devices remove {other.name}` first; "
        "--force gives it the second name all the same. If it is another board with a copied card: delete the file device-id in "
        "its store and restart that agent."
    )


class Inventory:
    """Registered devices. Every read goes to the file; writes are atomic and hold a lock, so hosts may share it."""

    def __init__(self, path: Path | None = None) -> None:
        if path is None:
            from platformdirs import user_config_path

            path = user_config_path("boardfit") / "devices.json"
        self.path = path
        self._seen: tuple[tuple[int, int, int], dict[str, RegisteredDevice]] | None = None

    def devices(self) -> tuple[RegisteredDevice, ...]:
        """Return all devices by name. Raises InventoryCorrupt."""
        return tuple(sorted(self._read().values(), key=lambda device: device.name))

    def get(self, name: str) -> RegisteredDevice:
        """Return the device that a selector means: its name, the profile of exactly one, or any that means one.

        Raises UnknownDevice, InvalidSelector (see selectors).
        """
        return selectors.only(self.devices(), name)

    def select(self, text: str) -> tuple[RegisteredDevice, ...]:
        """Return the devices that a selector means, by name. Raises UnknownDevice, InvalidSelector (see selectors)."""
        return selectors.select(self.devices(), text)

    def add(self, device: RegisteredDevice, *, replace: bool = False) -> None:
        """Register `device`. A taken name, or a board that has another name, raises InvalidDeviceName unless `replace`."""
        with self._locked():
            devices = self._read()
            if device.name in devices and not replace:
                raise InvalidDeviceName(
                    f"device {device.name!r} is registered already, at {devices[device.name].address}. "
                    f"Replace it with `host devices add {device.name} {device.address} --force`."
                )
            second = None if replace else second_name(device, devices.values())
            if second is not None:
                raise second
            self._write({**devices, device.name: device})

    def put(self, devices: Iterable[RegisteredDevice]) -> None:
        """Register all the devices in one write, replacing those of their names."""
        with self._locked():
            self._write({**self._read(), **{device.name: device for device in devices}})

    def remove(self, name: str) -> RegisteredDevice:
        """Forget the device called `name` (profiles are not looked at) and return it. Raises UnknownDevice."""
        with self._locked():
            devices = self._read()
            if name not in devices:
                known = ", ".join(sorted(devices)) or "none"
                raise UnknownDevice(f"no device is called {name!r}; registered: {known}")
            removed = devices.pop(name)
            self._write(devices)
            return removed

    def retag(
        self, names: Iterable[str], *, add: Iterable[str] = (), remove: Iterable[str] = ()
    ) -> tuple[RegisteredDevice, ...]:
        """Give the devices tags and take others from them; return the devices as they are now. Raises InvalidTag.

        A device that is gone is left out; a tag to remove that a device does not have is no error.
        """
        added, removed = set(add), set(remove)
        with self._locked():
            devices = self._read()
            changed = {
                name: replace(devices[name], tags=tuple((set(devices[name].tags) | added) - removed))
                for name in names
                if name in devices
            }
            self._write({**devices, **changed})
        return tuple(changed.values())

    def _read(self) -> dict[str, RegisteredDevice]:
        """Return the devices as the file has them; a file that was not replaced since the last time is not read again."""
        state = self._state()
        seen = self._seen
        if state is not None and seen is not None and seen[0] == state:
            return dict(seen[1])
        devices = self._parse()
        # Looked at before and after, so that what is kept is never older than its state says.
        self._seen = (state, devices) if state is not None and state == self._state() else None
        return dict(devices)

    def _state(self) -> tuple[int, int, int] | None:
        try:
            stat = self.path.stat()
        except OSError:
            return None
        return stat.st_ino, stat.st_mtime_ns, stat.st_size

    def _parse(self) -> dict[str, RegisteredDevice]:
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return {}
        except (OSError, UnicodeDecodeError) as error:
            raise InventoryCorrupt(f"cannot read the list of devices {self.path}: {error}") from error
        advice = "Correct the file, or move it away and add the devices again."
        try:
            document = json.loads(text)
        except ValueError as error:
            raise InventoryCorrupt(f"the list of devices {self.path} is not JSON: {error}. {advice}") from error
        try:
            if document["schema"] > SCHEMA:
                raise InventoryCorrupt(
                    f"the list of devices {self.path} was written by a newer boardfit (schema "
                    f"{document['schema']}, this one reads "
                    f"{SCHEMA}). Upgrade this host: pip install --upgrade boardfit."
                )
            return {name: _device_from(name, entry) for name, entry in document["devices"].items()}
        except (KeyError, TypeError, AttributeError, InvalidDeviceName, InvalidTag) as error:
            raise InventoryCorrupt(
                f"the list of devices {self.path} has an unexpected form ({type(error).__name__}: {error}). {advice}"
            ) from error

    def _write(self, devices: Mapping[str, RegisteredDevice]) -> None:
        document = {
            "schema": SCHEMA,
            "devices": {name: _entry_of(device) for name, device in sorted(devices.items())},
        }
        descriptor, temporary = tempfile.mkstemp(dir=self.path.parent, prefix=".devices-", suffix=".tmp")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(document, file, indent=2)
                file.write("\n")
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(self.path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # The lock is a file of its own, since the list itself is replaced at every write.
        with self.path.with_suffix(".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


def _entry_of(device: RegisteredDevice) -> dict[str, Any]:
    return {key: value for key, value in asdict(device).items() if key != "name" and value not in (None, ())}


def _device_from(name: str, entry: dict[str, Any]) -> RegisteredDevice:
    known = {field.name for field in fields(RegisteredDevice)} - {"name"}
    values = {key: value for key, value in entry.items() if key in known}
    tags = values.pop("tags", [])
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise TypeError(f"tags of device {name!r} are {tags!r}, not a list of texts")
    for key, value in values.items():
        if not isinstance(value, str):
            raise TypeError(f"{key} of device {name!r} is {value!r}, not a text")
    return RegisteredDevice(name=name, tags=tuple(tags), **values)
