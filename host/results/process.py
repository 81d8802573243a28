"""Which process this is, said so that another one on the same machine can see whether it still runs."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil


def this_process() -> dict[str, Any]:
    """Return host, pid, start (seconds since 1970) and pid namespace of this process; the last is None where there are none."""
    return {
        "host": platform.node(),
        "pid": os.getpid(),
        "started_s": psutil.Process().create_time(),
        "namespace": _namespace(),
    }


def has_died(process: Mapping[str, Any]) -> bool:
    """Say whether a process is surely gone: it was of this machine and namespace, and no process has its pid and start now."""
    if process["host"] != platform.node() or process["namespace"] != _namespace():
        return False
    try:
        found = psutil.Process(process["pid"])
        return abs(found.create_time() - process["started_s"]) > 1 or found.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:
        return False


def process_words(process: Mapping[str, Any]) -> str:
    """Return how to name a process."""
    return f"process {process['pid']} on {process['host']}"


def _namespace() -> str | None:
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return None
