"""Keeps glibc from holding on to memory that a transfer used once: on a small board the models need it."""

from __future__ import annotations

import ctypes
import gc

# <malloc.h>
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8

_THRESHOLD_BYTES = 256 * 1024


def bound_heap() -> None:
    """Let large buffers live in mappings of their own, freed with them, and threads share two arenas.

    glibc would raise the threshold with the first large buffer that is freed, and keep later ones in the heap. Other C
    libraries have no such setting and are left alone.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 2)
        mallopt(_M_MMAP_THRESHOLD, _THRESHOLD_BYTES)


def trim_heap() -> None:
    """Collect cycles and give freed pages back to the system now."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
