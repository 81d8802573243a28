"""`package.module:factory`: finding a callable of the user's by name. Imports nothing heavy by itself."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from device_agent.contract.errors import StableError


class UserCodeError(StableError):
    """The named module or factory cannot be had."""


def is_factory(spec: str) -> bool:
    """Whether `spec` has the form `package.module:factory`."""
    module, _, name = spec.partition(":")
    return name.isidentifier() and all(part.isidentifier() for part in module.split("."))


def resolve(spec: str) -> Callable[..., Any]:
    """The callable that `spec` names; modules in the current folder are found too.

    Raises UserCodeError when the module cannot be imported (its own error is the cause), or holds no such
    callable.
    """
    module_name, _, name = spec.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise UserCodeError(
            f"'{spec}': importing {module_name} failed with {reason}. "
            f"Is it installed, or below the current folder {here}?"
        ) from error
    factory = getattr(module, name, None)
    if not callable(factory):
        callables = sorted(key for key, value in vars(module).items() if callable(value) and not key.startswith("_"))
        raise UserCodeError(
            f"'{spec}': {module_name} has no callable named {name}. It has: {', '.join(callables) or 'none'}."
        )
    found: Callable[..., Any] = factory
    return found
