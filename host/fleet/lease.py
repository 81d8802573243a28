"""Keeping a lease alive from a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from device_agent.contract.errors import BoardfitError, StableError, TransientError


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
