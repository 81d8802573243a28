import numpy as np
import pytest

from host.datasets.dataset import DataError, Dataset3, Normalisation, Split, check_fits
from host.datasets.loading import load_data
from host.user_code import UserCodeError

MODULE = """
import numpy as np
from host.datasets.dataset import Dataset3, Split

def split(count, size):
    labels = np.arange(count) % 2
    return Split(images=np.zeros((count, 1, size, size), np.float32), labels=labels.astype(np.int64))

def good(input_size=4):
    size = input_size or 4
    parts = {"train": split(8, size), "validation": split(2, size), "test": split(4, size)}
    return Dataset3(name="mine", num_classes=2, **parts)

def as_arrays():
    x, y = np.zeros((20, 4, 4), np.uint8), np.arange(20) % 2
    return {"x_train": x, "y_train": y, "x_test": x, "y_test": y}

def wrong():
    return 3

def failing():
    raise KeyError("colour")
"""


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    name = f"own_data_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(__import__("sys").path))
    return name


def test_a_factory_in_the_current_folder(own_module):
    assert load_data(f"{own_module}:good").name == "mine"
    assert load_data(f"{own_module}:good", input_size=6).input_shape == (1, 6, 6)
    assert load_data(f"{own_module}:as_arrays").num_classes == 2


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("wrong", DataError, "returned int; it must return"),
        ("failing", DataError, "KeyError: 'colour'"),
        ("absent", UserCodeError, "has no callable named absent. It has: .*good"),
    ],
)
def test_a_factory_that_fails(own_module, name, kind, message):
    with pytest.raises(kind, match=message):
        load_data(f"{own_module}:{name}")


def test_a_module_that_is_not_there():
    with pytest.raises(UserCodeError, match="No module named 'nowhere'"):
        load_data("nowhere.to_be:found")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("fashion_mnist", "Did you mean fashion-mnist.*npz:FILE"),
        ("cifar-10", "there is no data 'cifar-10'. It is given as"),
        ("npz:", "names no file; write npz:PATH"),
        ("folder:", "names no folder"),
        ("", "there is no data ''"),
    ],
)
def test_unknown_data(spec, message):
    with pytest.raises(DataError, match=message):
        load_data(spec)


def split(count=4, channels=1, labels=None):
    return Split(
        images=np.zeros((count, channels, 4, 6), np.float32),
        labels=np.arange(count, dtype=np.int64) % 2 if labels is None else labels,
    )


def dataset(**changes):
    given = {"train": split(), "validation": split(), "test": split()} | changes
    return Dataset3(name="tiny", num_classes=2, **given)


def test_check_fits_accepts_and_explains():
    data = dataset()
    check_fits(data, (1, 4, 6), 2)
    with pytest.raises(DataError) as caught:
        check_fits(data, (3, 8, 8), 10, model="net")
    text = str(caught.value)
    assert "net takes images of 3x8x8 (C x H x W), data 'tiny' has 1x4x6" in text
    assert "net has 10 outputs, data 'tiny' has 2 classes" in text
    assert "in_channels=1" in text
    assert "num_classes=2" in text


def test_a_dataset_checks_itself():
    with pytest.raises(DataError, match="test labels run from 0 to 2"):
        dataset(test=split(labels=np.array([0, 1, 2, 0], np.int64)))
    with pytest.raises(DataError, match=r"validation images are \(2, 4, 6\)"):
        dataset(validation=split(channels=2))
    with pytest.raises(DataError, match=r"labels must be int64 \(4,\)"):
        split(labels=np.zeros(3, np.int64))
    with pytest.raises(DataError, match="must be float32"):
        Split(images=np.zeros((1, 1, 2, 2)), labels=np.zeros(1, np.int64))
    with pytest.raises(DataError, match="doesn't say how its images are normalised"):
        dataset().renormalised(Normalisation(mean=(0.0,), std=(1.0,)))


def test_normalisation_checks_itself():
    with pytest.raises(ValueError, match="std must be positive"):
        Normalisation(mean=(0.0,), std=(0.0,))
    with pytest.raises(ValueError, match="one number per channel"):
        Normalisation(mean=(0.0, 1.0), std=(1.0,))
