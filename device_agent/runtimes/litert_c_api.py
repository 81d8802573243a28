"""The C API of LiteRT's own library, as far as profiling needs it; the Python classes of the wheel offer no profiler.

Signatures and structures are those of the headers in `litert/c/` of github.com/google-ai-edge/LiteRT at v2.2.0, and so in 2.3.0.
They are not promised to stay: `open_library` refuses versions that were not read, and libraries that lack a symbol.
"""

from __future__ import annotations

import ctypes as c
from functools import cache
from pathlib import Path
from typing import Any

#: Versions whose headers were read and whose wheels were run. Patches are told apart: between 2.1.3 and 2.1.6 arguments changed.
KNOWN = ("2.2.0", "2.3.0")
MAX_RANK = 8
CPU_ACCELERATOR = 1
LOCK_READ, LOCK_WRITE = 0, 1


class NotSupported(Exception):
    """This wheel cannot be called, or a call failed; the message says which."""


class Layout(c.Structure):
    """LiteRtLayout. A dimension below 0 is dynamic."""

    _fields_ = [
        ("rank", c.c_uint32, 7),
        ("has_strides", c.c_uint32, 1),
        ("dimensions", c.c_int32 * MAX_RANK),
        ("strides", c.c_uint32 * MAX_RANK),
    ]


class RankedTensorType(c.Structure):
    """LiteRtRankedTensorType."""

    _fields_ = [("element_type", c.c_int), ("layout", Layout)]


class _MemoryUsage(c.Structure):
    _fields_ = [("total", c.c_size_t), ("in_use", c.c_size_t), ("private", c.c_size_t)]


class Event(c.Structure):
    """ProfiledEventData. `type` is one of the constants below; `metadata1` is the index of a node or of an operator."""

    _fields_ = [
        ("tag", c.c_char_p),
        ("type", c.c_int),
        ("start_us", c.c_uint64),
        ("elapsed_us", c.c_uint64),
        ("before", _MemoryUsage),
        ("after", _MemoryUsage),
        ("metadata1", c.c_uint64),
        ("metadata2", c.c_uint64),
        ("source", c.c_int),
    ]


#: An operator of the interpreter (metadata1: its node), and one inside a delegate (metadata1: its place there).
OPERATOR, DELEGATED_OPERATOR = 2, 8

_VOID, _SIZE, _INT = c.c_void_p, c.c_size_t, c.c_int
_OUT = c.POINTER(c.c_void_p)
_TEXT_OUT = c.POINTER(c.c_char_p)

#: Operators that may have an activation in them.
ACTIVATED = ("Add", "Conv2d", "DepthwiseConv2d", "FullyConnected", "Mul", "Sub", "Div")

#: Function -> arguments. All return a LiteRtStatus, but those that destroy something.
_FUNCTIONS: dict[str, tuple[Any, ...]] = {
    "CreateEnvironment": (_INT, _VOID, _OUT),
    "CreateModelFromFile": (_VOID, c.c_char_p, _OUT),
    "CreateOptions": (_OUT,),
    "SetOptionsHardwareAccelerators": (_VOID, _INT),
    "CreateOpaqueOptions": (c.c_char_p, _VOID, _VOID, _OUT),
    "AddOpaqueOptions": (_VOID, _VOID),
    "CreateCompiledModel": (_VOID, _VOID, _VOID, _OUT),
    "CompiledModelResizeInputTensorNonStrict": (_VOID, _SIZE, _SIZE, c.POINTER(_INT), _SIZE),
    "GetCompiledModelInputBufferRequirements": (_VOID, _SIZE, _SIZE, _OUT),
    "GetCompiledModelOutputBufferRequirements": (_VOID, _SIZE, _SIZE, _OUT),
    "GetCompiledModelOutputTensorLayouts": (_VOID, _SIZE, _SIZE, c.POINTER(Layout), c.c_bool),
    "CreateManagedTensorBufferFromRequirements": (_VOID, c.POINTER(RankedTensorType), _VOID, _OUT),
    "GetTensorBufferSize": (_VOID, c.POINTER(_SIZE)),
    "LockTensorBuffer": (_VOID, _OUT, _INT),
    "UnlockTensorBuffer": (_VOID,),
    "RunCompiledModel": (_VOID, _SIZE, _SIZE, _OUT, _SIZE, _OUT),
    "CompiledModelGetProfiler": (_VOID, _OUT),
    "StartProfiler": (_VOID,),
    "StopProfiler": (_VOID,),
    "GetNumProfilerEvents": (_VOID, c.POINTER(_INT)),
    "GetProfilerEvents": (_VOID, _INT, c.POINTER(Event)),
    "GetModelSignature": (_VOID, _SIZE, _OUT),
    "GetSignatureSubgraph": (_VOID, _OUT),
    "GetNumSignatureInputs": (_VOID, c.POINTER(_SIZE)),
    "GetNumSignatureOutputs": (_VOID, c.POINTER(_SIZE)),
    "GetSignatureInputTensorByIndex": (_VOID, _SIZE, _OUT),
    "GetSignatureOutputTensorByIndex": (_VOID, _SIZE, _OUT),
    "GetNumSubgraphOps": (_VOID, c.POINTER(_SIZE)),
    "GetSubgraphOp": (_VOID, _SIZE, _OUT),
    "GetOpCode": (_VOID, c.POINTER(_INT)),
    "GetNumOpInputs": (_VOID, c.POINTER(_SIZE)),
    "GetNumOpOutputs": (_VOID, c.POINTER(_SIZE)),
    "GetOpInput": (_VOID, _SIZE, _OUT),
    "GetOpOutput": (_VOID, _SIZE, _OUT),
    "GetTensorName": (_VOID, _TEXT_OUT),
    "GetTensorTypeId": (_VOID, c.POINTER(_INT)),
    "GetRankedTensorType": (_VOID, c.POINTER(RankedTensorType)),
    "GetTensorWeights": (_VOID, _OUT),
    "GetWeightsBytes": (_VOID, _OUT, c.POINTER(_SIZE)),
    **{f"Get{name}FusedActivationOption": (_VOID, c.POINTER(c.c_uint32)) for name in ACTIVATED},
    "DestroyTensorBuffer": (_VOID,),
    "DestroyCompiledModel": (_VOID,),
    "DestroyOptions": (_VOID,),
    "DestroyModel": (_VOID,),
    "DestroyEnvironment": (_VOID,),
}


class Library:
    """The functions by their names without the prefix `LiteRt`; a status that is not OK raises NotSupported."""

    def __init__(self, loaded: Any) -> None:
        self._loaded = loaded
        self._libc = c.CDLL(None)
        self._libc.strdup.restype = _VOID
        missing = [name for name in _FUNCTIONS if not hasattr(loaded, f"LiteRt{name}")]
        if missing:
            raise NotSupported(f"its library lacks LiteRt{missing[0]} and {len(missing) - 1} other functions")
        for name, arguments in _FUNCTIONS.items():
            function = getattr(loaded, f"LiteRt{name}")
            function.argtypes = arguments
            function.restype = None if name.startswith("Destroy") else _INT

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function for its effect."""
        status = getattr(self._loaded, f"LiteRt{name}")(*arguments)
        if status:
            raise NotSupported(f"LiteRt{name} failed with status {status}")

    def destroy(self, kind: str, handle: c.c_void_p) -> None:
        """Free an object of the kind; the names are those behind `LiteRtDestroy`."""
        getattr(self._loaded, f"LiteRtDestroy{kind}")(handle)

    def handle(self, name: str, *arguments: Any) -> c.c_void_p:
        """Return what a function writes behind its last argument, a pointer."""
        found = _VOID()
        self.call(name, *arguments, c.byref(found))
        return found

    def number(self, name: str, *arguments: Any) -> int:
        """Return the count that a function writes behind its last argument, a size_t."""
        found = _SIZE()
        self.call(name, *arguments, c.byref(found))
        return found.value

    def option(self, identifier: str, text: str) -> c.c_void_p:
        """Return opaque options, whose text the library frees."""
        payload = _VOID(self._libc.strdup(text.encode()))
        return self.handle("CreateOpaqueOptions", identifier.encode(), payload, c.cast(self._libc.free, _VOID))


@cache
def open_library(folder: Path, version: str) -> Library:
    """Return the library of the wheel that is installed in `folder`. NotSupported says why it cannot be used."""
    if version not in KNOWN:
        raise NotSupported(
            f"the profiler of LiteRT {version} is not known; in the agent's environment run:"
            f" pip install ai-edge-litert=={KNOWN[-1]} (or {', '.join(KNOWN[:-1])})"
        )
    path = folder / "libLiteRt.so"
    if not path.is_file():
        raise NotSupported(f"the wheel of LiteRT {version} has no {path.name} for this platform")
    try:
        return Library(c.CDLL(str(path)))
    except OSError as error:
        raise NotSupported(f"{path.name} of LiteRT {version} does not load: {error}") from error
