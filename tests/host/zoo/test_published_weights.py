"""The zoo's nets against weights that others trained, and the packaged weights against the packaged data."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from host.compress.evaluation import evaluate
from host.datasets.dataset import Normalisation
from host.datasets.loading import load_data
from host.zoo.registry import find_checkpoint, load_model

SHARED = Path(__file__).parents[4] / "shared" / "data"
# Of the published training.
NORMALISATION = Normalisation(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
IMAGES = 400

needs_shared_data = pytest.mark.skipif(not SHARED.is_dir(), reason=f"no folder {SHARED} beside the checkout")


def cifar_test_images(count):
    """The first `count` test images, JPEG files that share one header: (N, 3, 32, 32), normalised, and
    labels.
    """
    pack = np.load(SHARED / "cifar10_jpeg.npz")
    header = pack["header"].tobytes()
    ends = np.cumsum(pack["len_test"][:count].astype(np.int64))
    body = pack["body_test"][: ends[-1]].tobytes()
    starts = [0, *ends[:-1]]
    images = [
        np.asarray(Image.open(io.BytesIO(header + body[start:end])).convert("RGB"))
        for start, end in zip(starts, ends, strict=True)
    ]
    return NORMALISATION.apply(np.stack(images).transpose(0, 3, 1, 2)), pack["y_test"][:count].astype(np.int64)


@pytest.mark.shared_data
@needs_shared_data
@pytest.mark.parametrize("name", ["resnet20", "resnet56"])
def test_published_cifar_weights_classify_cifar_images(name):
    (path,) = (SHARED / "cifar_resnet").glob(f"{name}-*.th")
    model = load_model(name, checkpoint=path)
    images, labels = cifar_test_images(IMAGES)
    # 92 % and 94 % on the original pixels, about 10 points less on these JPEG files; chance is 10 %.
    assert evaluate(model.module, images, labels).accuracy > 0.75


def test_packaged_weights_reach_what_their_metadata_says():
    """On a fifth of the test images, which must lie within five standard errors (5 x 1.4 points) of the
    whole.
    """
    data = load_data("fashion-mnist")
    model = load_model("mobilenet_v2", checkpoint=find_checkpoint("mobilenet_v2", data.name))
    assert model.preprocess == data.normalisation
    assert evaluate(model.module, data.test.images[::5], data.test.labels[::5]).accuracy > 0.84
