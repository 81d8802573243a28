import pytest
import torch

from host.datasets.augment import Augmentation


def images(count=64, channels=2, height=5, width=7):
    return torch.arange(count * channels * height * width, dtype=torch.float32).reshape(count, channels, height, width)


@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize("padding", [0, 1, 3])
def test_every_result_is_one_crop_of_its_own_padded_image(flip, padding):
    original, fill = images(), (-1.0, -2.0)
    result = Augmentation(padding=padding, flip=flip).apply(original, torch.Generator().manual_seed(0), fill)
    assert result.shape == original.shape
    padded = torch.tensor(fill).reshape(1, 2, 1, 1).repeat(64, 1, 5 + 2 * padding, 7 + 2 * padding)
    padded[:, :, padding : padding + 5, padding : padding + 7] = original
    used = set()
    for index in range(64):
        options = {
            (top, left, mirrored): padded[index, :, top : top + 5, left : left + 7].flip(2)
            if mirrored
            else padded[index, :, top : top + 5, left : left + 7]
            for top in range(2 * padding + 1)
            for left in range(2 * padding + 1)
            for mirrored in (False, True)
        }
        matching = [key for key, crop in options.items() if torch.equal(crop, result[index])]
        assert len(matching) == 1
        used.add(matching[0])
    assert {mirrored for _, _, mirrored in used} == ({False, True} if flip else {False})
    assert {top for top, _, _ in used} == set(range(2 * padding + 1))
    assert {left for _, left, _ in used} == set(range(2 * padding + 1))


def test_draws_come_from_the_generator_alone():
    original = images()
    draw = Augmentation(padding=2)
    first = draw.apply(original, torch.Generator().manual_seed(1), (0.0, 0.0))
    torch.manual_seed(99)
    assert torch.equal(first, draw.apply(original, torch.Generator().manual_seed(1), (0.0, 0.0)))
    assert not torch.equal(first, draw.apply(original, torch.Generator().manual_seed(2), (0.0, 0.0)))
    assert torch.equal(original, images())


def test_a_negative_padding_is_refused():
    with pytest.raises(ValueError, match="at least 0 pixels"):
        Augmentation(padding=-1)
