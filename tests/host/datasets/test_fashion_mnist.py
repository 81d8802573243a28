import numpy as np
import pytest

from host.datasets import fashion_mnist
from host.datasets.dataset import DataError, Normalisation
from host.datasets.loading import load_data


@pytest.fixture(scope="module")
def data():
    return load_data("fashion-mnist")


def test_sizes_and_shapes(data):
    assert (data.name, data.num_classes, data.input_shape) == ("fashion-mnist", 10, (1, 32, 32))
    assert {key: len(split) for key, split in data.splits().items()} == {
        "train": 9000,
        "validation": 1000,
        "test": 2000,
    }


def test_validation_has_a_hundred_of_each_class_and_none_of_train(data):
    np.testing.assert_array_equal(np.bincount(data.validation.labels), [100] * 10)
    train = {image.tobytes() for image in data.train.images}
    shared = [image for image in data.validation.images if image.tobytes() in train]
    assert not shared


def test_pixels_are_normalised_and_the_border_is_black(data):
    assert abs(data.train.images.mean()) < 0.01
    assert abs(data.train.images.std() - 1) < 0.01
    border = data.train.images[:, 0, :2]
    np.testing.assert_allclose(border, data.normalisation.black[0], rtol=1e-6)


def test_the_split_is_repeatable_and_test_does_not_depend_on_the_seed(data):
    again, other = load_data("fashion-mnist"), load_data("fashion-mnist", seed=7)
    np.testing.assert_array_equal(again.validation.images, data.validation.images)
    np.testing.assert_array_equal(other.test.labels, data.test.labels)
    assert not np.array_equal(other.validation.images, data.validation.images)


def test_renormalising_equals_loading_with_that_normalisation(data):
    wanted = Normalisation(mean=(0.5,), std=(0.25,))
    loaded = load_data("fashion-mnist", normalisation=wanted)
    np.testing.assert_allclose(data.renormalised(wanted).validation.images, loaded.validation.images, atol=1e-5)
    assert data.renormalised(wanted).normalisation == wanted


def test_a_damaged_package_says_so(tmp_path):
    with pytest.raises(DataError, match="Reinstall boardfit"):
        fashion_mnist.load(file=tmp_path / "absent.npz")
