import numpy as np
import pytest
from PIL import Image

from host.datasets.dataset import DataError
from host.datasets.loading import load_data


def fill(root, *, classes=("cat", "dog"), count=6, size=(8, 6), mode="RGB", level=0):
    for number, name in enumerate(classes):
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        for index in range(count):
            colour = level + 40 * number + index
            Image.new(mode, size, (colour,) * 3 if mode == "RGB" else colour).save(folder / f"{index}.png")
    return root


def test_missing_splits_are_held_out(tmp_path):
    fill(tmp_path, count=10)
    (tmp_path / "cat" / "._0.png").write_text("left by a file manager")
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    data = load_data(f"folder:{tmp_path}")
    assert data.input_shape == (3, 6, 8)
    assert (len(data.train), len(data.validation), len(data.test)) == (14, 2, 4)
    assert data.class_names == ("cat", "dog")
    everything = np.concatenate([split.images[:, 0, 0, 0] for split in data.splits().values()])
    assert len(np.unique(everything)) == 20


def test_split_folders(tmp_path):
    for split, count, level in (("train", 5, 0), ("valid", 2, 100), ("test", 3, 200)):
        fill(tmp_path / split, count=count, mode="L", level=level)
    data = load_data(f"folder:{tmp_path}")
    assert data.input_shape == (1, 6, 8)
    assert (len(data.train), len(data.validation), len(data.test)) == (10, 4, 6)
    level = data.test.images[0, 0, 0, 0] * data.normalisation.std[0] + data.normalisation.mean[0]
    assert level * 255 == pytest.approx(200, abs=1e-3)


def test_images_are_scaled_and_cropped_to_the_input_size(tmp_path):
    fill(tmp_path, count=10)
    Image.new("RGB", (40, 10)).save(tmp_path / "cat" / "wide.png")
    assert load_data(f"folder:{tmp_path}", input_size=16).input_shape == (3, 16, 16)


def test_one_colour_image_makes_all_rgb(tmp_path):
    fill(tmp_path, count=10, mode="L")
    Image.new("RGB", (8, 6), (255, 0, 0)).save(tmp_path / "cat" / "red.png")
    assert load_data(f"folder:{tmp_path}").input_shape == (3, 6, 8)


def test_sixteen_bit_grey_keeps_its_upper_byte(tmp_path):
    fill(tmp_path, count=10, mode="L")
    for path in tmp_path.glob("*/*.png"):
        level = np.asarray(Image.open(path))[0, 0]
        Image.fromarray(np.full((6, 8), int(level) * 256 + 17, np.uint16)).save(path)
    data = load_data(f"folder:{tmp_path}")
    levels = data.train.images * data.normalisation.std[0] + data.normalisation.mean[0]
    assert levels.max() * 255 == pytest.approx(49, abs=1)
    assert levels.min() * 255 == pytest.approx(0, abs=1)


def test_a_turned_photograph_is_turned_back(tmp_path):
    fill(tmp_path, count=10)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (6, 8)).save(tmp_path / "cat" / "phone.jpg", exif=exif)
    assert load_data(f"folder:{tmp_path}").input_shape == (3, 6, 8)


def test_what_is_wrong_is_said(tmp_path):
    with pytest.raises(DataError, match="there is no folder"):
        load_data(f"folder:{tmp_path / 'absent'}")
    with pytest.raises(DataError, match="at least two; it holds 0"):
        load_data(f"folder:{tmp_path}")
    fill(tmp_path, count=10)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"class folder .*empty holds no image"):
        load_data(f"folder:{tmp_path}")
    (tmp_path / "empty").rmdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "dog" / "other.png")
    with pytest.raises(DataError, match=r"differ in size: .*0\.png is 8x6, .*other\.png is 9x9"):
        load_data(f"folder:{tmp_path}")


@pytest.mark.parametrize("keep", [10, 60])
def test_a_corrupt_image_is_named(tmp_path, keep):
    random = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    fill(tmp_path, count=10)
    broken = tmp_path / "dog" / "3.png"
    Image.fromarray(random).save(broken)
    broken.write_bytes(broken.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"dog/3\.png cannot be read as an image"):
        load_data(f"folder:{tmp_path}")


def test_splits_must_agree_on_the_classes(tmp_path):
    fill(tmp_path / "train")
    fill(tmp_path / "test", classes=("cat", "horse"))
    with pytest.raises(DataError, match="only one has dog, horse"):
        load_data(f"folder:{tmp_path}")


def test_test_without_train(tmp_path):
    fill(tmp_path / "test")
    with pytest.raises(DataError, match="has test but no folder train"):
        load_data(f"folder:{tmp_path}")
