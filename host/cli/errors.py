"""From errors to messages and exit codes: the one place that decides."""

from __future__ import annotations

from enum import IntEnum

from device_agent.contract.errors import BoardfitError, DeviceUnreachable, InvalidRequest
from host.constraints import ConstraintNotMet
from host.files import refusal
from host.fleet.inventory import InvalidDeviceName, InventoryCorrupt, UnknownDevice


class ExitCode(IntEnum):
    """What the status of every command means."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    CONSTRAINT_NOT_MET = 3
    NO_DEVICE = 4
    INTERRUPTED = 130  # 128 + SIGINT, as shells count


_CODES: tuple[tuple[type[BoardfitError], ExitCode], ...] = (
    (ConstraintNotMet, ExitCode.CONSTRAINT_NOT_MET),
    (DeviceUnreachable, ExitCode.NO_DEVICE),
    (UnknownDevice, ExitCode.USAGE),
    (InvalidDeviceName, ExitCode.USAGE),
    (InvalidRequest, ExitCode.USAGE),
    (InventoryCorrupt, ExitCode.FAILED),
)


def exit_code_of(error: BaseException) -> ExitCode:
    """Return the exit code for an error that ended a command."""
    if isinstance(error, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    return next((code for kind, code in _CODES if isinstance(error, kind)), ExitCode.FAILED)


def message_of(error: BaseException) -> str:
    """Return what to tell a user. An error that is none of Boardfit's own is a defect, and its place is
    given.
    """
    if isinstance(error, BoardfitError):
        return str(error)
    if isinstance(error, OSError) and (refused := refusal(error)) is not None:
        return refused
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = "" if place is None else f" at {place.tb_frame.f_code.co_filename}:{place.tb_lineno}"
    return (
        f"{type(error).__name__}: {error}{where}. This should not happen; `host --debug ...` shows where it comes from."
    )
