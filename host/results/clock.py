"""The time by the clock of the database, as seconds since 1970: several hosts need not agree on theirs."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import ColumnElement, Connection, Double, literal, select, text

#: PostgreSQL's clock. As a query of its own it is taken once a statement, and an index can serve the comparison with it.
CLOCK = select(text("extract(epoch from clock_timestamp())::double precision"))


def now_in(connection: Connection) -> ColumnElement[Any]:
    """Return an expression for the present moment. SQLite has no server: its clock is this machine's."""
    if connection.dialect.name == "postgresql":
        return CLOCK.scalar_subquery()
    return literal(time.time(), Double)


def now_of(connection: Connection) -> float:
    """Return the present moment."""
    if connection.dialect.name == "postgresql":
        return float(connection.execute(CLOCK).scalar_one())
    return time.time()
