"""The lower precisions that are tried of a result, and their files, made when they are asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from device_agent.contract.device import DeviceInfo
from host.compress.nodes import ExportedModel, describe
from host.compress.quantization import (
    CALIBRATIONS,
    Scheme,
    prepare,
    quantize_dynamic,
    quantize_static,
    schemes_for,
    to_float16,
)
from host.datasets.dataset import Images

#: Below the folder of the results, while a compression runs.
VARIANTS_FOLDER = "precision"
FLOAT32, INT8_STATIC, INT8_DYNAMIC, FLOAT16 = "float32", "int8-static", "int8-dynamic", "float16"
#: By precision: the record's name for the file, and the file's own.
FILE_NAMES = {
    INT8_STATIC: ("onnx_int8", "model.int8.onnx"),
    INT8_DYNAMIC: ("onnx_int8", "model.int8.onnx"),
    FLOAT16: ("onnx_float16", "model.fp16.onnx"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One file to try. `scheme` and `calibration` (one of CALIBRATIONS) belong to static int8."""

    precision: str
    scheme: Scheme | None = None
    calibration: str | None = None

    @property
    def slug(self) -> str:
        """A name that no other variant has, fit for a file."""
        parts = (self.precision, None if self.scheme is None else self.scheme.slug, self.calibration)
        return "-".join(part for part in parts if part)

    def same_speed(self) -> tuple[Variant, ...]:
        """Return the variants that run the same kernels and differ in accuracy only, this one first."""
        if self.scheme is None:
            return (self,)
        return tuple(
            replace(self, scheme=scheme, calibration=calibration)
            for scheme in self.scheme.same_speed()
            for calibration in CALIBRATIONS
        )


def static_variants(info: DeviceInfo, provider: str | None) -> tuple[Variant, ...]:
    """Return static int8 in the types that may be fast on a device."""
    return tuple(
        Variant(precision=INT8_STATIC, scheme=scheme, calibration=CALIBRATIONS[0])
        for scheme in schemes_for(info.architecture, provider)
    )


def variants_for(info: DeviceInfo, provider: str | None, *, float16: bool) -> tuple[Variant, ...]:
    """Return what to measure on a device: static int8 in the types that may be fast there, dynamic int8, and float16."""
    others = (Variant(precision=INT8_DYNAMIC), *((Variant(precision=FLOAT16),) if float16 else ()))
    return (*static_variants(info, provider), *others)


class VariantFiles:
    """Variants of one float file, in a folder of their own; what is there already is taken as it is.

    `calibration` returns images (N, C, H, W) of the training split. Raises QuantizationFailed, CannotWrite.
    """

    def __init__(self, source: ExportedModel, folder: Path, calibration: Callable[[], Images]) -> None:
        self._source, self._folder, self._calibration = source, folder, calibration

    def file(self, variant: Variant) -> ExportedModel:
        """Return the variant's file, made on the first call."""
        path = self._path(variant.slug)
        if path.exists():
            return describe(path)
        prepared = self._path("prepared")
        if not prepared.exists():
            prepare(self._source.path, prepared)
        if variant.precision == FLOAT16:
            return to_float16(prepared, path)
        if variant.scheme is None or variant.calibration is None:
            return quantize_dynamic(prepared, path)
        symmetry = "symmetric" if variant.scheme.symmetric else "any"
        return quantize_static(
            prepared,
            path,
            self._calibration(),
            scheme=variant.scheme,
            calibration=variant.calibration,
            ranges=self._path(f"{variant.calibration}-{symmetry}").with_suffix(".json"),
        )

    def _path(self, name: str) -> Path:
        return self._folder / f"{self._source.sha256[:8]}-{name}.onnx"
