"""manifest.json: what the files of a result are, and reference inputs and outputs by which anybody can check them.

Whoever has the folder needs neither PyTorch nor the data: run the inputs, compare with the outputs, within the tolerance.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from device_agent.contract.errors import StableError
from host.compress.verify import TOLERANCE
from host.datasets.dataset import Dataset3, Images
from host.files import write_whole

SCHEMA = 1
MANIFEST = "manifest.json"
INPUTS, SAMPLE = "reference-inputs.npz", "sample.npz"
REFERENCE_IMAGES = 16
#: A quantized file may answer otherwise on another processor: sums saturate or are rounded in other places. Share of the largest
#: reference output; and the least share of images that get the same class.
QUANTIZED_TOLERANCE, QUANTIZED_AGREEMENT = 0.1, 0.85


class FilesDiffer(StableError):
    """A folder of results is not as its manifest says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactFile:
    """An exported model in the folder. `outputs` (N, classes) are the reference answers, made by `computed_by`.

    `role` is its name in the record's `artifacts`.
    """

    role: str
    path: Path
    precision: str
    outputs: np.ndarray
    computed_by: str


def reference_images(data: Dataset3) -> Images:
    """Return the images by which results are checked, of the validation split: the test images are touched for nothing else."""
    return data.validation.images[:REFERENCE_IMAGES]


def write_manifest(
    out: Path,
    *,
    model: str,
    data: Dataset3,
    images: Images,
    artifacts: Sequence[ArtifactFile],
    others: Mapping[str, Path],
) -> Path:
    """Write the references and manifest.json to `out`, and return its path; `others` are files without references, by role.

    `images` (N, C, H, W) are the reference inputs, as the files take them.

    Raises CannotWrite.
    """
    entries = []
    for each in artifacts:
        inputs, outputs = _tensors(each.path)
        _save(out / INPUTS, {inputs[0]["name"]: images})
        _save(out / SAMPLE, {inputs[0]["name"]: images[:1]})
        answers = out / f"reference-outputs{'' if each.precision == 'float32' else f'.{each.precision}'}.npz"
        _save(answers, {outputs[0]["name"]: each.outputs})
        exact = each.precision == "float32"
        largest = float(np.abs(each.outputs).max())
        entries.append(
            {
                "role": each.role,
                **_file(each.path),
                "format": each.path.suffix[1:],
                "precision": each.precision,
                "inputs": inputs,
                "outputs": outputs,
                "reference": {
                    "inputs": INPUTS,
                    "outputs": answers.name,
                    "count": len(images),
                    "computed_by": each.computed_by,
                },
                "tolerance": {
                    "max_error": (TOLERANCE if exact else QUANTIZED_TOLERANCE) * largest,
                    "top1_agreement": 1.0 if exact else QUANTIZED_AGREEMENT,
                },
            }
        )
    references = dict.fromkeys([INPUTS, SAMPLE, *(entry["reference"]["outputs"] for entry in entries)])
    normalisation = data.normalisation
    document = {
        "schema": SCHEMA,
        "model": model,
        "data": data.name,
        "class_names": None if data.class_names is None else list(data.class_names),
        "normalisation": None
        if normalisation is None
        else {"scale": 1 / 255, "mean": list(normalisation.mean), "std": list(normalisation.std)},
        # Images of the data at another size are to be resized so, by anybody who runs the files.
        "resize": None
        if images.shape[1:] == data.input_shape
        else {"height": images.shape[2], "width": images.shape[3], "method": "bilinear", "antialias": True},
        "artifacts": entries,
        "files": [
            *({"role": role, **_file(path)} for role, path in others.items()),
            *({"role": "reference", **_file(out / name)} for name in references),
        ],
    }
    write_whole(out / MANIFEST, (json.dumps(document, indent=2, allow_nan=False) + "\n").encode())
    return out / MANIFEST


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a folder whose files are as it says. Raises FilesDiffer, with every file that is not."""
    try:
        document: dict[str, Any] = json.loads((folder / MANIFEST).read_bytes())
        listed = [*document["artifacts"], *document["files"]]
    except (OSError, ValueError, KeyError) as error:
        raise FilesDiffer(
            f"{folder} has no readable {MANIFEST} ({error}); name a folder that host compress wrote"
        ) from error
    problems = []
    for each in listed:
        path = folder / each["file"]
        if not path.is_file():
            problems.append(f"{each['file']} is missing")
        elif _sha256(path) != each["sha256"]:
            problems.append(f"{each['file']} has other content")
    if problems:
        raise FilesDiffer(f"{folder} is not as its manifest says: {'; '.join(problems)}. Copy the folder again")
    return document


def _file(path: Path) -> dict[str, Any]:
    return {"file": path.name, "sha256": _sha256(path), "size_bytes": path.stat().st_size}


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _save(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **dict(arrays))  # type: ignore[arg-type]  # its stubs take any name for allow_pickle
    write_whole(path, buffer.getvalue())


def _tensors(path: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return name, shape and dtype of every input and output; a dimension without a number is None."""
    if path.suffix == ".tflite":
        return _tflite_tensors(path)
    graph = onnx.load(str(path)).graph
    constants = {value.name for value in graph.initializer}
    return (
        [_onnx_tensor(value) for value in graph.input if value.name not in constants],
        [_onnx_tensor(value) for value in graph.output],
    )


def _onnx_tensor(value: onnx.ValueInfoProto) -> dict[str, Any]:
    tensor = value.type.tensor_type
    shape = [each.dim_value if each.HasField("dim_value") else None for each in tensor.shape.dim]
    return {"name": value.name, "shape": shape, "dtype": str(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))}


def _tflite_tensors(path: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    from ai_edge_litert.interpreter import Interpreter  # there wherever the host makes TFLite files

    interpreter = Interpreter(model_path=str(path))

    def described(details: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [
            {
                "name": each["name"],
                "shape": [int(size) for size in each["shape"]],
                "dtype": np.dtype(each["dtype"]).name,
            }
            for each in details
        ]

    return described(interpreter.get_input_details()), described(interpreter.get_output_details())
