"""Artifacts: exported model files, known by the hash of their content."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

from device_agent.contract.errors import InvalidRequest

_SHA256 = re.compile(r"[0-9a-f]{64}")


def check_sha256(text: str) -> str:
    """Return `text` if it is a lower-case hexadecimal sha256; raise InvalidRequest otherwise (names never become paths)."""
    if not _SHA256.fullmatch(text):
        raise InvalidRequest(f"artifact hash {text[:80]!r} is not a sha256 (64 lower-case hexadecimal digits)")
    return text


class ArtifactFormat(str, Enum):
    """File formats that a device takes: models, and NPZ for input arrays by the inputs' names (numpy's, without pickles)."""

    ONNX = "onnx"
    TFLITE = "tflite"
    NPZ = "npz"

    @property
    def is_model(self) -> bool:
        """Whether a runtime loads it."""
        return self is not ArtifactFormat.NPZ

    @classmethod
    def of_suffix(cls, suffix: str) -> ArtifactFormat:
        """Return the format of a file name's suffix (`.onnx`, `.tflite`, `.npz`); raise InvalidRequest for others."""
        try:
            return cls(suffix.lower().lstrip("."))
        except ValueError:
            raise InvalidRequest(f"file type {suffix!r} is not one of .onnx, .tflite, .npz") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """An exported file as the agent stores it. `name` is for people only and is never part of a path."""

    sha256: str
    format: ArtifactFormat
    size_bytes: int
    name: str

    def __post_init__(self) -> None:
        check_sha256(self.sha256)
        if self.size_bytes <= 0:
            raise InvalidRequest(f"artifact {self.name!r} has size {self.size_bytes} bytes; it must be positive")


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """One input or output of a model. `dtype` is a numpy name; a dimension of None is dynamic."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """A tensor on the wire: C-contiguous little-endian bytes of `dtype` (a numpy name) in `shape`."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: bytes
