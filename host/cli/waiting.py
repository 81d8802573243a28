"""`--wait 10min`: commands that use a device alone, and what they say while somebody else has it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import click

from device_agent.contract.errors import InvalidRequest
from device_agent.quantities import duration_s

if TYPE_CHECKING:
    from device_agent.contract.lease import Place
    from host.fleet.client import AgentClient


def _duration(text: str) -> float:
    try:
        return duration_s(text)
    except InvalidRequest as error:
        raise click.BadParameter(str(error)) from None


#: Adds `--wait TIME` to a command, as `wait_s`: seconds, or None.
wait_option: Callable[[Callable[..., Any]], Callable[..., Any]] = click.option(
    "--wait",
    "wait_s",
    type=_duration,
    metavar="TIME",
    help="Where somebody else has the device, wait in its queue for so long at most: 10min, 1h.  [default: fail at once]",
)


@contextmanager
def exclusive(client: AgentClient, reason: str, wait_s: float | None, say: Callable[[str], None]) -> Iterator[None]:
    """Have the device alone in the block. `say` gets a moving line while it is waited for. Raises DeviceBusy with what to do."""
    from device_agent.contract.errors import DeviceBusy

    with ExitStack() as stack:
        try:
            stack.enter_context(client.lease(None, reason, wait_s=wait_s, on_wait=Waiting(say)))
        except DeviceBusy as error:
            raise how_to_wait(error, wait_s) from error
        yield


def how_to_wait(error: Exception, wait_s: float | None) -> Exception:
    """Return the error of a busy device, with the option that waits for it where that was not given."""
    if wait_s is not None:
        return error
    return type(error)(f"{error}. With --wait 10min this command waits for it in the queue, ten minutes at most.")


class Waiting:
    """Tells the place in the queue: to `moving` every time, to `line`, by default stderr, when it changes.

    A moving line is for terminals only; where there is none, the lines are all that is seen.
    """

    def __init__(self, moving: Callable[[str], None] | None, line: Callable[[str], None] | None = None) -> None:
        self._moving = moving
        self._line = line
        self._told: object = None

    def __call__(self, place: Place) -> None:
        """Hear of the place."""
        from host.fleet.lease import place_text

        text = f"waiting: {place_text(place)}"
        if self._moving is not None:
            self._moving(text)
        fresh = (place.position, place.holder, place.reason)
        if fresh == self._told:
            return
        self._told = fresh
        if self._line is not None:
            self._line(text)
        elif not sys.stderr.isatty():
            click.echo(text, err=True)
