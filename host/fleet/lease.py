"""Getting a lease, in the queue if need be, and keeping it alive from a thread of its own."""

from __future__ import annotations

import getpass
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from device_agent.contract.errors import BoardfitError, DeviceBusy, StableError, TransientError
from device_agent.contract.lease import Lease, Place

#: How long a lease outlives the host that took it.
TTL_S = 30.0
#: The agent answers as soon as something changes, so this is only how often a quiet queue is heard of.
HOLD_S = 3.0
#: While the link is cut, or the agent restarts, it is asked again so often, and for so long.
RETRY_S = 0.5
SILENT_S = 60.0


def default_holder() -> str:
    """Return who holds the device, for those who have to wait for it: user, machine and process."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # in a container whose user has a number and no name
        user = f"user {os.getuid()}"
    return f"{user}@{socket.gethostname()} (process {os.getpid()})"


def new_ticket() -> str:
    """Return what a host asks for a lease with: whoever knows it gets the same lease, so it can't be guessed."""
    return secrets.token_hex(16)


def wait_for_lease(
    ask: Callable[[float], Lease | Place],
    leave: Callable[[], None],
    *,
    wait_s: float,
    on_wait: Callable[[Place], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> Lease:
    """Ask until there is a lease, for `wait_s` seconds at most, and leave the queue in any other case.

    `ask(hold_s)` is a call to the agent whose answer may be held back for so long. A cut link or a restart of the agent is waited
    out for SILENT_S once the agent has answered. Raises DeviceBusy if the time is up, or at once where the queue is full; else
    the errors of `ask`.
    """
    deadline = clock() + wait_s
    heard: float | None = None
    hold_s = 0.0  # the first answer says at once how long the queue is
    try:
        while True:
            try:
                answer = ask(hold_s)
            except DeviceBusy:
                raise
            except TransientError:
                if heard is None or clock() - heard > SILENT_S or clock() >= deadline:
                    raise
                pause(RETRY_S)
                hold_s = 0.0
                continue
            heard = clock()
            if isinstance(answer, Lease):
                return answer
            if on_wait is not None:
                on_wait(answer)
            left_s = deadline - clock()
            if left_s <= 0:
                raise DeviceBusy(f"the device did not become free within {wait_s:.0f} s: {place_text(answer)}")
            hold_s = min(HOLD_S, left_s)
    except BaseException:
        with suppress(BoardfitError):
            leave()
        raise


def place_text(place: Place) -> str:
    """Return a place in the queue in words: its number, and who is waited for, for what and for how long."""
    number = f"place {place.position} of {place.waiting} in the queue"
    if place.holder is None:
        return number
    until = "" if place.remaining_s is None else f", {place.remaining_s:.0f} s remaining unless renewed"
    return f"{number}; the device is {place.holder}'s for {place.reason}{until}"


@contextmanager
def keep_renewed(renew: Callable[[], None], release: Callable[[], None], *, ttl_s: float) -> Iterator[None]:
    """Call `renew` every third of `ttl_s` until the block ends, then `release`.

    A transient failure is tried again at a tenth of `ttl_s`; after a stable one (the lease is lost) the
    thread ends, and the caller learns of it by the next call, which carries the dead token. A failed release
    is left to the lease's own end.
    """
    done = threading.Event()

    def work() -> None:
        wait_s = ttl_s / 3
        while not done.wait(wait_s):
            try:
                renew()
                wait_s = ttl_s / 3
            except TransientError:
                wait_s = ttl_s / 10
            except StableError:
                return

    thread = threading.Thread(target=work, name="lease-renewal", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        with suppress(BoardfitError):
            release()
