import numpy as np
import pytest

from host.datasets.dataset import DataError, Normalisation
from host.datasets.loading import load_data

CLASSES = 3


def arrays(per_class=10, shape=(6, 8), seed=0):
    random = np.random.default_rng(seed)
    y = np.repeat(np.arange(CLASSES), per_class)
    x = random.integers(0, 256, (len(y), *shape), dtype=np.uint8)
    return {"x_train": x, "y_train": y, "x_test": x[:6].copy(), "y_test": y[:6].copy()}


def saved(path, **content):
    np.savez(path, **content)
    return f"npz:{path}"


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((6, 8), (1, 6, 8)), ((6, 8, 3), (3, 6, 8)), ((3, 6, 8), (3, 6, 8)), ((6, 8, 1), (1, 6, 8))],
)
def test_layouts(tmp_path, shape, expected):
    content = arrays(shape=shape)
    data = load_data(saved(tmp_path / "some.npz", **content))
    assert data.input_shape == expected
    assert (data.name, data.num_classes) == ("npz:some", CLASSES)
    assert (len(data.train), len(data.validation), len(data.test)) == (27, 3, 6)
    pixels = content["x_test"].reshape(6, *shape)
    pixels = pixels.transpose(0, 3, 1, 2) if shape[-1] in (1, 3) else pixels.reshape(6, *expected)
    np.testing.assert_allclose(data.test.images, data.normalisation.apply(pixels))


def test_normalisation_is_measured_on_the_training_images_alone(tmp_path):
    content = arrays() | {"x_val": np.zeros((3, 6, 8), np.uint8), "y_val": np.arange(3)}
    data = load_data(saved(tmp_path / "d.npz", **content))
    pixels = content["x_train"] / 255
    assert data.normalisation.mean == pytest.approx((pixels.mean(),))
    assert data.normalisation.std == pytest.approx((pixels.std(),))
    assert len(data.train) == 30
    assert data.train.images.mean() == pytest.approx(0, abs=1e-5)


def test_a_given_normalisation_is_used(tmp_path):
    scale = Normalisation(mean=(0.0,), std=(1.0,))
    data = load_data(saved(tmp_path / "d.npz", **arrays()), normalisation=scale)
    assert data.train.images.min() >= 0
    assert data.train.images.max() <= 1


def test_a_normalisation_of_another_channel_count_is_refused(tmp_path):
    with pytest.raises(DataError, match="1 channels, the normalisation is for 3"):
        load_data(
            saved(tmp_path / "d.npz", **arrays()),
            normalisation=Normalisation(mean=(0.0,) * 3, std=(1.0,) * 3),
        )


@pytest.mark.parametrize("kind", [str, bytes])
def test_class_names_give_the_number_of_classes(tmp_path, kind):
    data = load_data(saved(tmp_path / "d.npz", **arrays(), class_names=np.array(["a", "b", "c"], kind)))
    assert data.class_names == ("a", "b", "c")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y_test": None, "extra": np.zeros(1)}, r"lacks y_test; it has extra, x_test, x_train, y_train"),
        ({"x_val": np.zeros((2, 6, 8), np.uint8)}, r"lacks y_val"),
        ({"y_test": np.zeros(5, int)}, r"x_test has 6 images but y_test 5 labels"),
        ({"y_test": np.full(6, 3)}, r"test: label 3 at index 0 \(6 such\) is out of range"),
        ({"y_test": np.full(6, -1)}, r"label -1 .* must lie in 0 - 2"),
        ({"y_train": np.repeat([1, 2, 3], 10)}, r"no training image has label 0.*start at 1"),
        ({"y_train": np.zeros(30)}, r"y_train is float64 .* labels must be integers"),
        ({"x_train": np.zeros((30, 6, 8), np.float32)}, r"x_train is float32; images must be uint8"),
        ({"x_train": np.zeros((30, 6, 8, 2), np.uint8)}, r"shape \(30, 6, 8, 2\).* 1, 3 or 4 channels"),
        ({"x_train": np.zeros((30, 3, 8, 3), np.uint8)}, r"reads as \(N, H, W, C\) and as \(N, C, H, W\)"),
        ({"x_train": np.zeros((0, 6, 8), np.uint8)}, r"holds no pixels"),
        (
            {"x_test": np.zeros((6, 9, 9), np.uint8)},
            r"test images are \(1, 9, 9\), training images \(1, 6, 8\)",
        ),
        ({"y_train": np.zeros(30, int), "y_test": np.zeros(6, int)}, r"has 1 class.*at least two"),
        ({"x_train": np.array([{}] * 30)}, r"x_train cannot be read .*allow_pickle"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, change, message):
    content = {key: value for key, value in (arrays() | change).items() if value is not None}
    with pytest.raises(DataError, match=message):
        load_data(saved(tmp_path / "d.npz", **content))


def test_too_few_images_to_hold_out(tmp_path):
    with pytest.raises(DataError, match="too few training images to hold out a validation split"):
        load_data(saved(tmp_path / "d.npz", **arrays(per_class=1)))


def test_files_that_are_no_npz(tmp_path):
    with pytest.raises(DataError, match="there is no file"):
        load_data(f"npz:{tmp_path / 'absent.npz'}")
    text = tmp_path / "text.npz"
    text.write_text("hello")
    with pytest.raises(DataError, match="no npz file, or is damaged"):
        load_data(f"npz:{text}")
    whole = tmp_path / "whole.npz"
    np.savez(whole, **arrays())
    cut = tmp_path / "cut.npz"
    cut.write_bytes(whole.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"is damaged|cut short"):
        load_data(f"npz:{cut}")
    single = tmp_path / "single.npy"
    np.save(single, np.zeros(3))
    with pytest.raises(DataError, match="holds a single array"):
        load_data(f"npz:{single}")
