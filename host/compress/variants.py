"""The lower precisions that are tried of a result, and their files, made when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from device_agent.contract.device import DeviceInfo
from host.compress.nodes import ExportedModel, describe
from host.compress.quantization import (
    CALIBRATIONS,
    Scheme,
    float16_reason,
    prepare,
    quantize_dynamic,
    quantize_static,
    schemes_for,
    to_float16,
)
from host.compress.tflite import quantization as tflite
from host.compress.tflite.describe import describe_tflite
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
TFLITE_FILE_NAMES = dict.fromkeys((INT8_STATIC, INT8_DYNAMIC), ("tflite_int8", "model.int8.tflite"))
NO_TFLITE_FLOAT16 = (
    "float16 is not tried in TFLite files: XNNPACK computes in float16 only on processors with such instructions"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One file to try. `scheme` and `calibration` (one of `calibrations`) belong to static int8."""

    precision: str
    scheme: Scheme | None = None
    calibration: str | None = None
    calibrations: tuple[str, ...] = CALIBRATIONS

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
            for calibration in self.calibrations
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


def tflite_variants() -> tuple[Variant, ...]:
    """Return what to measure of a TFLite file: static int8 in the types of its specification, and dynamic int8."""
    scheme = Scheme(activations="S8", weights="S8")
    static = Variant(
        precision=INT8_STATIC, scheme=scheme, calibration=tflite.CALIBRATIONS[0], calibrations=tflite.CALIBRATIONS
    )
    return (static, Variant(precision=INT8_DYNAMIC))


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


class TfliteVariantFiles:
    """The same for TFLite files. Raises TfliteUnavailable besides."""

    def __init__(self, source: ExportedModel, folder: Path, calibration: Callable[[], Images]) -> None:
        self._source, self._folder, self._calibration = source, folder, calibration

    def file(self, variant: Variant) -> ExportedModel:
        """Return the variant's file, made on the first call."""
        path = self._folder / f"{self._source.sha256[:8]}-{variant.slug}.tflite"
        if path.exists():
            return describe_tflite(path)
        if variant.calibration is None:
            return tflite.quantize_tflite_dynamic(self._source.path, path)
        return tflite.quantize_tflite(self._source.path, path, self._calibration(), calibration=variant.calibration)


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """The lower precisions of one format: which to try, how their files are made and called, and the version of what makes them.

    `no_float16` says why float16 is not tried, None where it is or where nobody asks for it.
    """

    variants: tuple[Variant, ...]
    no_float16: str | None
    files: type[VariantFiles] | type[TfliteVariantFiles]
    names: Mapping[str, tuple[str, str]]
    tools: str
    describe: Callable[[Path], ExportedModel]


def artifact_name(precision: str, path: Path) -> str:
    """Return the record's name for a file of a lower precision."""
    return (TFLITE_FILE_NAMES if path.suffix == ".tflite" else FILE_NAMES)[precision][0]


def family_of(format_name: str, info: DeviceInfo, provider: str | None, *, forced: bool) -> Family:
    """Return what to try of a file of that format on a device; `forced` to int8, nobody asks for float16.

    Raises TfliteUnavailable where the tools for TFLite files are missing.
    """
    if format_name == "tflite":
        return Family(
            variants=tflite_variants(),
            no_float16=None if forced else NO_TFLITE_FLOAT16,
            files=TfliteVariantFiles,
            names=TFLITE_FILE_NAMES,
            tools=tflite.quantizer_version(),
            describe=describe_tflite,
        )
    import onnxruntime

    no_float16 = None if forced else float16_reason(info.architecture, provider)
    return Family(
        variants=variants_for(info, provider, float16=not forced and no_float16 is None),
        no_float16=no_float16,
        files=VariantFiles,
        names=FILE_NAMES,
        tools=str(onnxruntime.__version__),
        describe=describe,
    )
