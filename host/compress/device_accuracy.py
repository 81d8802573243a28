"""Accuracy of a file as the device itself answers, and as this host's processor does."""

from __future__ import annotations

import time

import numpy as np

from host.compress.nodes import ExportedModel
from host.compress.resolution import for_files
from host.compress.session import Session
from host.compress.tflite.running import run_tflite
from host.datasets.dataset import Images

#: An inference stream ends by its deadline after 600 s.
_STREAM_S = 300.0


def answers(session: Session, file: ExportedModel, images: Images, latency_ns: float) -> np.ndarray:
    """Return the class (N,) that the device answers for each image of the data, -1 where an output is not finite."""
    at_once = max(1, int(_STREAM_S * 1e9 / max(latency_ns, 1.0)))
    started, waited = time.perf_counter_ns(), session.measuring.waited_ns
    parts = [
        session.measuring.outputs(file, for_files(session, images[start : start + at_once]))
        for start in range(0, len(images), at_once)
    ]
    waited = session.measuring.waited_ns - waited
    session.measuring.device_ns += time.perf_counter_ns() - started - waited
    return _classes(np.concatenate(parts))


def tested_on_device(session: Session, file: ExportedModel, latency_ns: float) -> dict[str, float | int]:
    """Return the accuracy on the test split, with the counts behind it; the device is asked once."""
    test = session.subject.data.test

    def ask() -> dict[str, float | int]:
        correct = int((answers(session, file, test.images, latency_ns) == test.labels).sum())
        return {"accuracy": correct / len(test), "correct": correct, "test_images": len(test)}

    value: dict[str, float | int] = session.once(f"precision test {file.sha256[:8]}", ask)
    return value


def answers_on_host(file: ExportedModel, images: Images) -> np.ndarray:
    """Return the class (N,) that this host's own processor answers."""
    if file.path.suffix == ".tflite":
        return _classes(run_tflite(file.path, images))
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file.path), providers=["CPUExecutionProvider"])
    return _classes(np.concatenate([session.run(None, {file.input_name: image[None]})[0] for image in images]))


def _classes(outputs: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(outputs).all(axis=1), outputs.argmax(axis=1), -1)
