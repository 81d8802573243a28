"""`--store URL`: which history a command uses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

#: Adds `--store URL` to a command, as `store_url`: None for what BOARDFIT_STORE says, or else the user's own history.
store_option: Callable[[Callable[..., Any]], Callable[..., Any]] = click.option(
    "--store",
    "store_url",
    metavar="URL",
    help="The history: sqlite:///FILE or postgresql+psycopg://USER@HOST/DATABASE.  [default: $BOARDFIT_STORE, or your own]",
)
