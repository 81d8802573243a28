import pytest
import torch

from host.datasets.augment import Augmentation, apply_view


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


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"padding": -1}, "padding must be at least 0 pixels"),
        ({"cutout": -2}, "cutout must be at least 0 pixels"),
        ({"erase": 1.5}, "erase is a probability"),
        ({"mix_probability": -0.1}, "mix_probability is a probability"),
        ({"mixup": -1.0}, "mixup must be 0"),
        ({"cutmix": float("inf")}, "cutmix must be 0"),
    ],
)
def test_wrong_values_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(**wrong)


STILL = {"padding": 0, "flip": False}


def zeros_per_image(augmentation, side=16, count=400):
    """(N, H, W): where each of the images of ones was erased; all channels alike."""
    ones = torch.ones(count, 2, side, side)
    result = augmentation.apply(ones, torch.Generator().manual_seed(0), (0.0, 0.0))
    assert set(result.unique().tolist()) <= {0.0, 1.0}
    assert torch.equal(result[:, 0], result[:, 1])
    return result[:, 0] == 0


def is_box(mask):
    rows, columns = mask.any(1), mask.any(0)
    return torch.equal(mask, rows[:, None] & columns[None]) and all(
        int(line.nonzero()[-1] - line.nonzero()[0]) + 1 == int(line.sum()) for line in (rows, columns)
    )


def test_random_erasing_takes_one_rectangle_of_some_images():
    erased = zeros_per_image(Augmentation(**STILL, erase=0.5))
    shares = erased.flatten(1).float().mean(1)
    hit = shares[shares > 0]
    assert 150 < len(hit) < 250
    assert all(is_box(mask) for mask in erased if mask.any())
    # Sides are rounded to pixels, and a long one is cut to the image.
    assert 0.005 < hit.min() < 0.06
    assert 0.25 < hit.max() < 0.38


def test_cutout_takes_a_square_that_may_hang_over_the_edge():
    erased = zeros_per_image(Augmentation(**STILL, cutout=6))
    sizes = erased.flatten(1).sum(1)
    assert all(is_box(mask) for mask in erased)
    assert sizes.max() == 36
    assert 9 <= sizes.min() < 36
    assert erased.any(0).all()


def mixes(augmentation, count=200):
    generator = torch.Generator().manual_seed(3)
    return [augmentation.draw_mix(8, 10, 12, generator) for _ in range(count)]


def test_mixup_shares_follow_their_beta():
    shares = torch.tensor([mix.share for mix in mixes(Augmentation(mixup=0.5), 1000)])
    # Beta(a, a): mean 1/2, variance 1 / (4 (2a + 1)).
    assert shares.mean() == pytest.approx(0.5, abs=0.03)
    assert shares.var() == pytest.approx(1 / 8, abs=0.01)


def test_mixup_is_the_weighted_sum_of_image_and_partner():
    mix, batch = mixes(Augmentation(mixup=1.0), 1)[0], torch.rand(8, 3, 10, 12)
    partners = batch[mix.partner]
    assert sorted(mix.partner.tolist()) == list(range(8))
    assert torch.allclose(mix.apply(batch, partners), mix.share * batch + (1 - mix.share) * partners)


def test_cutmix_shares_are_the_areas_in_the_image():
    drawn = mixes(Augmentation(cutmix=1.0))
    for mix in drawn:
        own, other = torch.zeros(8, 3, 10, 12), torch.ones(8, 3, 10, 12)
        mixed = mix.apply(own, other)
        assert float(1 - mixed.mean()) == pytest.approx(mix.share, abs=1e-6)
        assert not mixed.any() or is_box(mixed[0, 0] == 1)
    assert torch.equal(own, torch.zeros_like(own))
    assert min(mix.share for mix in drawn) < 0.2
    assert max(mix.share for mix in drawn) > 0.9


def test_both_take_turns_and_some_batches_stay_as_they_are():
    drawn = mixes(Augmentation(mixup=1.0, cutmix=1.0, mix_probability=0.6), 1000)
    kinds = ["none" if mix is None else "mixup" if mix.box is None else "cutmix" for mix in drawn]
    assert 0.35 < kinds.count("none") / 1000 < 0.45
    assert 0.25 < kinds.count("mixup") / 1000 < 0.35
    assert mixes(Augmentation(mixup=1.0, mix_probability=0.0), 1) == [None]


def test_rows_of_a_batch_look_as_they_do_in_the_whole():
    augmentation, original = Augmentation(padding=2, erase=0.5, cutout=3), images()
    view = augmentation.draw_view(64, 5, 7, torch.Generator().manual_seed(0))
    whole = apply_view(original, view, (-1.0, -2.0))
    for rows in (slice(10, 33), torch.tensor([5, 60, 5])):
        assert torch.equal(apply_view(original[rows], view.of(rows), (-1.0, -2.0)), whole[rows])
