"""The model and the data of a compression, loaded and checked against each other."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from host.compress.options import CompressOptions
from host.datasets.dataset import Dataset3, check_fits
from host.datasets.loading import load_data
from host.user_code import is_factory
from host.zoo.checkpoint import load_checkpoint
from host.zoo.registry import ModelError, ZooModel, entry, find_checkpoint, load_model

_FILES = (".onnx", ".tflite", ".pt2")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A trained model in evaluation mode on the CPU, and data that fit it."""

    model: ZooModel
    data: Dataset3

    def fingerprints(self) -> dict[str, str]:
        """Return hashes of the weights and of the images that plans are made on: a run is resumed only with the same ones."""
        weights, images = hashlib.sha256(), hashlib.sha256()
        for name, value in self.model.module.state_dict().items():
            weights.update(name.encode() + np.ascontiguousarray(value.detach().cpu().double().numpy()).tobytes())
        for split in (self.data.train, self.data.validation):
            images.update(np.ascontiguousarray(split.images).data)
            images.update(np.ascontiguousarray(split.labels).data)
        return {"weights": weights.hexdigest()[:16], "images": images.hexdigest()[:16]}


def load_subject(options: CompressOptions) -> Subject:
    """Load what `options` name. A zoo model needs trained weights: a checkpoint, or packaged ones for this data.

    The data are normalised as the weights were trained. Raises ModelError, CheckpointError, DataError, UserCodeError.
    """
    if Path(options.model).suffix.lower() in _FILES:
        raise ModelError(
            f"{options.model} is an exported file; pruning needs the PyTorch module, because it removes channels and trains on. "
            "Give a zoo name or package.module:factory (files can be measured with: host bench)"
        )
    factory = is_factory(options.model)
    given = None if options.checkpoint is None else Path(options.checkpoint)
    size = None if factory else entry(options.model).input_size
    if given is not None:
        size = load_checkpoint(given).arguments.get("input_size", size)
    # The data's own seed stays: another split would validate on images that the weights were trained on.
    data = load_data(options.data, input_size=size)
    checkpoint = given or find_checkpoint(options.model, data.name)
    if checkpoint is None and not factory:
        raise ModelError(
            f"there are no trained weights of {options.model} for data {data.name!r} in the package. Train some with: "
            f"host train {options.model} --data {options.data} --out weights.pt, then add --checkpoint weights.pt"
        )
    channels, height, _ = data.input_shape
    model = load_model(
        options.model, num_classes=data.num_classes, in_channels=channels, input_size=height, checkpoint=checkpoint
    )
    if model.preprocess is not None and model.preprocess != data.normalisation:
        data = load_data(options.data, input_size=size, normalisation=model.preprocess)
    check_fits(data, model.input_shape, model.num_classes, model=options.model)
    return Subject(model=model, data=data)
