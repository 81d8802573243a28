"""Which registered devices a selector means: `pi4-3`, `tag:lab-a`, `profile:pi4`, `all`, joined by commas; `!` excludes.

    profile:pi4,!tag:broken        every Pi 4 that is not tagged broken
    tag:lab-a,tag:lab-b            those of two labs
    !pi4-3                         all but one

The order of the parts does not matter: what is excluded stays out. A bare word is a name, else the profile of exactly one device.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from device_agent.contract.errors import InvalidRequest, StableError

if TYPE_CHECKING:
    from host.fleet.inventory import RegisteredDevice

#: Always this machine, with an agent of its own per command; never in the list.
LOCAL = "local"
ALL = "all"
TAG, PROFILE = "tag:", "profile:"
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=-]{0,62}")
#: Names in a message; of a long list the beginning says enough.
_SHOWN = 12


class UnknownDevice(StableError):
    """No registered device is meant by a name or a selector, or more than one where one is needed."""


class InvalidSelector(InvalidRequest):
    """The text is no selector."""


class InvalidTag(InvalidRequest):
    """The text cannot be a tag."""


def check_tag(text: str) -> str:
    """Return the tag, a word such as `lab-a` or `rack=3`. Raises InvalidTag."""
    if not _TAG.fullmatch(text):
        raise InvalidTag(
            f"{text[:80]!r} cannot be a tag: use 1 to 63 letters, digits, dots, dashes, underscores and =, "
            "a letter or digit first, such as lab-a or rack=3"
        )
    return text


def select(devices: Iterable[RegisteredDevice], text: str) -> tuple[RegisteredDevice, ...]:
    """Return the devices that the selector means, by name, each once; never an empty tuple.

    Raises InvalidSelector for a text that is none, UnknownDevice if a part means no device (but for excluded tags and profiles:
    that no board is broken is fine), or if nothing is left.
    """
    known = sorted(devices, key=lambda device: device.name)
    parts = [part.strip() for part in text.split(",")]
    if not all(part.removeprefix("!").strip() for part in parts):
        raise InvalidSelector(f"{text!r} has an empty part; write for example 'profile:pi4,!tag:broken', or 'all'")
    wanted = [part for part in parts if not part.startswith("!")] or [ALL]
    unwanted = [part[1:].strip() for part in parts if part.startswith("!")]
    meant = {device.name for part in wanted for device in _of_part(known, part, text)}
    for part in unwanted:
        meant -= {device.name for device in _of_part(known, part, text, may_be_none=part.startswith((TAG, PROFILE)))}
    if not meant:
        raise UnknownDevice(f"{text!r} excludes every device that it names. {_what_exists(known)}")
    return tuple(device for device in known if device.name in meant)


def only(devices: Iterable[RegisteredDevice], text: str) -> RegisteredDevice:
    """Return the one device that the selector means. Raises what `select` does, and UnknownDevice if it means several."""
    found = select(devices, text)
    if len(found) > 1:
        raise UnknownDevice(f"{text!r} means {len(found)} devices, and one is needed: {_some(found)}. Name one.")
    return found[0]


def _of_part(
    known: Collection[RegisteredDevice], part: str, text: str, *, may_be_none: bool = False
) -> list[RegisteredDevice]:
    """Return what one part means, without its `!`."""
    if part != ALL and not part.startswith((TAG, PROFILE)):
        if ":" in part:
            raise InvalidSelector(f"{part!r} in {text!r} is no selector: use NAME, {TAG}TAG, {PROFILE}PROFILE or {ALL}")
        return [_named(known, part, text)]
    if part.startswith(TAG):
        check_tag(part.removeprefix(TAG))
    found = [device for device in known if _is_of(device, part)]
    if not found and not may_be_none:
        what = "no devices are registered" if part == ALL else f"{part!r} means no registered device"
        raise UnknownDevice(f"{what}. {_what_exists(known)}")
    return found


def _is_of(device: RegisteredDevice, group: str) -> bool:
    if group.startswith(TAG):
        return group.removeprefix(TAG) in device.tags
    return group == ALL or device.profile == group.removeprefix(PROFILE)


def _named(known: Collection[RegisteredDevice], name: str, text: str) -> RegisteredDevice:
    """Return the device of this name, else the only one of this profile."""
    named = next((device for device in known if device.name == name), None)
    if named is not None:
        return named
    of_profile = [device for device in known if device.profile == name]
    if len(of_profile) == 1:
        return of_profile[0]
    if of_profile:
        raise UnknownDevice(
            f"no device is called {name!r}, and {len(of_profile)} devices have this profile: {_some(of_profile)}. "
            f"Name one, or write {PROFILE}{name} where several may be meant."
        )
    if name == LOCAL:
        raise InvalidSelector(
            f"{LOCAL!r} in {text!r} is this machine and not in the list of devices; name it alone, where one device is needed"
        )
    registered = ", ".join(device.name for device in known) if len(known) <= _SHOWN else _some(known)
    raise UnknownDevice(
        f"no device is called {name!r} (registered: {registered or 'none'}). Start `device-agent serve` on it and add it "
        f"with `host devices add {name} ADDRESS` (the agent listens on loopback: reach it through an SSH tunnel, or give "
        f"it --listen ADDRESS:PORT); `--device {LOCAL}` is this machine and needs no adding."
    )


def _what_exists(known: Collection[RegisteredDevice]) -> str:
    if not known:
        return "Add one with `host devices add NAME ADDRESS`."
    tags = sorted({tag for device in known for tag in device.tags})
    profiles = sorted({device.profile for device in known if device.profile is not None})
    return (
        f"Devices: {_some(known)}; tags: {', '.join(tags[:_SHOWN]) or 'none'}; "
        f"profiles: {', '.join(profiles[:_SHOWN]) or 'none'}."
    )


def _some(devices: Collection[RegisteredDevice]) -> str:
    names = [device.name for device in devices]
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
