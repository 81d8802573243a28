"""One thread that writes for many: what queues up while a transaction is being committed goes into the next one, together.

A commit on SQLite costs one fsync whatever is in it, and only one connection may write at a time.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine

T = TypeVar("T")
#: What waits longest in a transaction waits for so many others at most.
MOST_TOGETHER = 100


class GroupWriter:
    """Runs functions on a connection; each sees what the ones before it wrote, and is undone alone where it raises."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine.execution_options(immediate=True)
        self._queue: queue.SimpleQueue[tuple[Callable[[Connection], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False

    def write(self, work: Callable[[Connection], T]) -> T:
        """Return what `work` returned once it is on disk; raise what it raised, or what the commit did."""
        future: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError("the history was closed")
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="history-writer", daemon=True)
                self._thread.start()
            self._queue.put((work, future))
        return future.result()

    def close(self) -> None:
        """Write what was handed over, then stop."""
        with self._lock:
            self._closed = True
            thread = self._thread
        if thread is not None:
            self._queue.put(None)
            thread.join()

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            batch, ended = [first], False
            while len(batch) < MOST_TOGETHER and not ended:
                try:
                    found = self._queue.get_nowait()
                except queue.Empty:
                    break
                if found is None:
                    ended = True
                else:
                    batch.append(found)
            self._write(batch)
            if ended:
                return

    def _write(self, batch: list[tuple[Callable[[Connection], Any], Future[Any]]]) -> None:
        outcomes: list[Callable[[], None]] = []
        try:
            with self._engine.connect() as connection, connection.begin():
                for work, future in batch:
                    outcomes.append(_attempt(connection, work, future))
        except BaseException as error:
            # Nothing of this transaction is on disk.
            for _, future in batch:
                future.set_exception(error)
            return
        for tell in outcomes:
            tell()


def _attempt(connection: Connection, work: Callable[[Connection], T], future: Future[T]) -> Callable[[], None]:
    """Do the work in a savepoint; return how to tell its caller, once the transaction is on disk."""
    # SQLAlchemy's own savepoints cost as much time as the work in them.
    driver: Any = connection.connection.driver_connection
    driver.execute("SAVEPOINT one")
    try:
        found = work(connection)
    except Exception as error:
        # A full disk ends the whole transaction, in which case there is nothing left to go on with.
        if not driver.in_transaction:
            raise
        driver.execute("ROLLBACK TO one")
        driver.execute("RELEASE one")
        failure = error
        return lambda: future.set_exception(failure)
    driver.execute("RELEASE one")
    return lambda: future.set_result(found)
