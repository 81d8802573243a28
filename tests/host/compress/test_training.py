import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from training_nets import RECIPE, Stop, net, same_weights, stop_after, stripes

from host.compress.recipe import Distillation, EarlyStop, Ema, Recipe
from host.compress.training import TrainingError, evaluate, train
from host.datasets.augment import Augmentation
from host.datasets.dataset import Split


@pytest.fixture(scope="module")
def data():
    return stripes()


def test_it_learns_and_keeps_the_best_epoch(data):
    module, seen = net(), []
    before = evaluate(module, data.test.images, data.test.labels).accuracy

    history = train(module, data, RECIPE, on_epoch=seen.append)

    assert tuple(seen) == history.epochs
    assert [record.epoch for record in history.epochs] == [1, 2, 3, 4]
    assert history.stopped == "finished"
    assert not module.training
    assert history.best.validation_accuracy == max(record.validation_accuracy for record in history.epochs)
    validation = evaluate(module, data.validation.images, data.validation.labels)
    assert validation.accuracy == history.best.validation_accuracy
    assert validation.loss == pytest.approx(history.best.validation_loss, rel=1e-5)
    assert evaluate(module, data.test.images, data.test.labels).accuracy > max(0.9, before)


def test_the_best_epoch_is_kept_even_when_later_ones_are_worse(data):
    worse = dataclasses.replace(
        data, train=Split(images=data.train.images, labels=1 - data.train.labels)
    )  # trained on wrong labels, every epoch takes accuracy away
    module = net()
    train(module, data, RECIPE)
    history = train(module, worse, dataclasses.replace(RECIPE, epochs=8))
    assert history.epochs[-1].validation_accuracy < history.best.validation_accuracy
    validation = evaluate(module, data.validation.images, data.validation.labels)
    assert validation.accuracy == history.best.validation_accuracy
    assert validation.loss == pytest.approx(history.best.validation_loss, rel=1e-5)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(data):
    first, second, third = net(), net(), net()
    train(first, data, RECIPE)
    torch.rand(7)
    train(second, data, RECIPE)
    train(third, data, dataclasses.replace(RECIPE, seed=1))
    assert same_weights(first, second)
    assert not same_weights(first, third)


def test_the_callers_random_state_and_threads_are_left_alone(data):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    threads = torch.get_num_threads()
    module = net(5)
    torch.manual_seed(5)
    train(module, data, dataclasses.replace(RECIPE, epochs=1))
    assert torch.equal(torch.rand(1), expected)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("cut", [1, 3])
def test_a_cut_training_resumes_to_the_same_weights(data, tmp_path, cut):
    whole, state = net(), tmp_path / "state"
    expected = train(whole, data, RECIPE)
    with pytest.raises(Stop):
        train(net(), data, RECIPE, state_file=state, on_epoch=stop_after(cut))

    resumed, seen = net(seed=9), []
    history = train(resumed, data, RECIPE, state_file=state, resume=True, on_epoch=seen.append)

    assert [record.epoch for record in seen] == list(range(cut + 1, 5))
    assert same_weights(resumed, whole)
    assert [record.train_loss for record in history.epochs] == [record.train_loss for record in expected.epochs]


def test_a_resumed_training_keeps_the_memory_layout(data, tmp_path):
    """Long enough for the trial of layouts, whose clock here makes channels-last the slower one, then the faster."""
    recipe, state = dataclasses.replace(RECIPE, epochs=10), tmp_path / "state"

    def clock(turns):
        """The four turns of each layout take 1 or 5 seconds; everything after takes none."""
        now, times = 0.0, []
        for seconds in turns:
            for _ in range(4):
                times += [now, now + seconds]
                now += seconds
        ticks = iter(times)
        return lambda: next(ticks, now)

    def deep_net(seed=0):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3), net(seed)[1:])

    whole, resumed, formats = deep_net(), deep_net(seed=9), []
    train(whole, data, recipe, clock=clock((5, 1)))
    with pytest.raises(Stop):
        train(deep_net(), data, recipe, state_file=state, on_epoch=stop_after(3), clock=clock((5, 1)))

    def note_format(record):
        formats.append(resumed[1].weight.is_contiguous(memory_format=torch.channels_last))

    train(resumed, data, recipe, state_file=state, resume=True, on_epoch=note_format, clock=clock((1, 5)))
    assert formats == [True] * 7
    assert same_weights(resumed, whole)
    assert resumed[1].weight.is_contiguous()


def test_resuming_a_finished_training_only_loads_it(data, tmp_path):
    whole, state = net(), tmp_path / "state"
    history = train(whole, data, RECIPE, state_file=state)
    again = net(seed=9)
    assert train(again, data, RECIPE, state_file=state, resume=True) == history
    assert same_weights(again, whole)


def test_resuming_without_a_state_file_starts_over(data, tmp_path):
    module = net()
    history = train(module, data, RECIPE, state_file=tmp_path / "new", resume=True)
    assert len(history.epochs) == 4


def test_a_state_of_another_training_is_refused(data, tmp_path):
    state = tmp_path / "state"
    train(net(), data, dataclasses.replace(RECIPE, epochs=1), state_file=state)
    with pytest.raises(
        TrainingError, match=r"another training: other recipe \(epochs: 1 there, 4 here\).*delete it to start over"
    ):
        train(net(), data, RECIPE, state_file=state, resume=True)
    other = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    with pytest.raises(TrainingError, match="another training: other shapes"):
        train(other, data, dataclasses.replace(RECIPE, epochs=1), state_file=state, resume=True)


@pytest.mark.parametrize("keep", [0, 100, -50])
def test_a_damaged_state_is_refused(data, tmp_path, keep):
    state = tmp_path / "state"
    train(net(), data, RECIPE, state_file=state)
    state.write_bytes(state.read_bytes()[:keep])
    with pytest.raises(TrainingError, match=r"state cannot be resumed from: .*Delete it to start over"):
        train(net(), data, RECIPE, state_file=state, resume=True)


def test_a_loss_that_is_not_finite_says_where_and_what_to_try(data):
    with pytest.raises(TrainingError) as caught:
        train(net(), data, dataclasses.replace(RECIPE, learning_rate=1e30, warmup_epochs=0))
    text = str(caught.value)
    assert "loss became" in text
    assert "in epoch 1, step 2 of 12" in text
    assert "at learning rate 9.989e+29" in text
    assert "1e+29" in text


def test_images_that_are_not_finite_are_noticed(data):
    images = data.train.images.copy()
    images[:] = np.nan
    broken = dataclasses.replace(data, train=Split(images=images, labels=data.train.labels))
    with pytest.raises(TrainingError, match="became nan in epoch 1, step 1 of 12"):
        train(net(), broken, RECIPE)


def test_a_deadline_ends_the_training_annealed(data):
    ticks = iter(range(10_000))
    module = net()
    history = train(module, data, dataclasses.replace(RECIPE, epochs=50), deadline_s=60, clock=lambda: next(ticks))
    # Twelve steps and two looks at the clock make an epoch of about 14 ticks.
    assert history.stopped == "deadline"
    assert 3 <= len(history.epochs) <= 6
    assert history.epochs[-1].learning_rate < 0.02 * RECIPE.learning_rate
    assert evaluate(module, data.validation.images, data.validation.labels).accuracy > 0.9


def test_a_generous_deadline_changes_nothing(data):
    first, second = net(), net()
    train(first, data, RECIPE)
    assert train(second, data, RECIPE, deadline_s=1e9).stopped == "finished"
    assert same_weights(first, second)


class Recorder(nn.Module):
    """A classifier that keeps what it was shown, and in which mode."""

    def __init__(self, seed):
        super().__init__()
        self.inner, self.shown = net(seed), []

    def forward(self, x):
        if torch.is_grad_enabled() or not isinstance(self, Student):
            self.shown.append((x.clone(), self.training))
        return self.inner(x)


class Student(Recorder):
    pass


def test_the_teacher_sees_the_same_augmented_batch_in_evaluation_mode(data):
    teacher, student = Recorder(1), Student(2)
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    recipe = dataclasses.replace(RECIPE, epochs=1, augmentation=Augmentation(padding=2), distillation=Distillation())
    train(student, data, recipe, teacher=teacher)
    assert len(teacher.shown) == len(student.shown) == 12
    for (taught, teaching_mode), (learned, learning_mode) in zip(teacher.shown, student.shown, strict=True):
        assert torch.equal(taught, learned)
        assert not teaching_mode
        assert learning_mode
    assert all(torch.equal(value, before[key]) for key, value in teacher.state_dict().items())


def test_a_student_learns_from_its_teacher_what_its_labels_hide(data):
    teacher = net(1)
    train(teacher, data, dataclasses.replace(RECIPE, epochs=6))
    random = np.random.default_rng(3).permutation(data.train.labels)
    hidden = dataclasses.replace(data, train=Split(images=data.train.images, labels=random))
    alone, taught = net(2), net(2)
    recipe = dataclasses.replace(RECIPE, epochs=6, distillation=Distillation(temperature=2.0, weight=1.0))
    train(taught, hidden, recipe, teacher=teacher)
    assert evaluate(taught, data.test.images, data.test.labels).accuracy > 0.9
    last = train(alone, hidden, dataclasses.replace(recipe, distillation=None)).epochs[-1]
    assert last.train_accuracy < 0.7


def test_the_loss_is_that_of_hinton_et_al(data):
    """One step at a learning rate that moves nothing; dropout off, so that the loss can be computed apart."""
    teacher, student = net(1).eval(), nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    images, labels = torch.from_numpy(data.train.images), torch.from_numpy(data.train.labels)
    with torch.no_grad():
        own, theirs = student(images), teacher(images)
    heat, weight = 3.0, 0.4
    p, q = F.softmax(theirs / heat, 1), F.softmax(own / heat, 1)
    divergence = (p * (p.log() - q.log())).sum(1).mean()
    expected = (1 - weight) * F.cross_entropy(own, labels, label_smoothing=0.1) + weight * heat**2 * divergence
    recipe = Recipe(
        epochs=1,
        batch_size=200,
        learning_rate=1e-20,
        augmentation=None,
        distillation=Distillation(temperature=heat, weight=weight),
    )
    history = train(student, data, recipe, teacher=teacher)
    assert history.epochs[0].train_loss == pytest.approx(float(expected), rel=1e-5)


def test_a_teacher_and_its_recipe_belong_together(data):
    with pytest.raises(ValueError, match="distillation needs both"):
        train(net(), data, RECIPE, teacher=net())
    with pytest.raises(ValueError, match="distillation needs both"):
        train(net(), data, dataclasses.replace(RECIPE, distillation=Distillation()))
    with pytest.raises(ValueError, match="deadline_s must be positive"):
        train(net(), data, RECIPE, deadline_s=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"batch_size": 1}, "batch_size must be at least 2"),
        ({"learning_rate": 0.0}, "learning_rate must be positive"),
        ({"learning_rate": float("nan")}, "learning_rate must be positive"),
        ({"momentum": 1.0}, "momentum must lie in"),
        ({"weight_decay": -1.0}, "weight_decay must not be negative"),
        ({"label_smoothing": 1.0}, "label_smoothing must lie in"),
        ({"warmup_epochs": -1}, "warmup_epochs must not be negative"),
        ({"threads": 0}, "threads must be at least 1"),
        ({"loss": "nll"}, "loss must have the form package.module:function"),
        ({"loss": "a:b", "step": "a:c"}, "loss and step exclude each other"),
    ],
)
def test_recipes_check_themselves(change, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**change)


def test_the_schedule_rises_and_falls_to_zero():
    recipe = Recipe(epochs=10, learning_rate=1.0, warmup_epochs=1)
    rates = [recipe.learning_rate_at(step / 100) for step in range(101)]
    assert rates[10] == max(rates) == 1.0
    assert 0 < rates[0] < rates[5] < rates[10]
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[55] == pytest.approx(0.5)
    assert rates[100] == pytest.approx(0)


class TestMixedImages:
    def test_the_loss_shares_both_labels_and_the_teacher_sees_the_mixed_images(self, data):
        """One step over all images at a rate that moves nothing, with every image mixed in the same way."""
        augmentation = Augmentation(padding=0, flip=False, mixup=1.0)
        recipe = Recipe(
            epochs=1, batch_size=200, learning_rate=1e-20, augmentation=augmentation, distillation=Distillation()
        )
        teacher, student = Recorder(1).eval(), nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
        generator = torch.Generator().manual_seed(1)
        order = torch.randperm(200, generator=generator)
        images, labels = torch.from_numpy(data.train.images)[order], torch.from_numpy(data.train.labels)[order]
        augmentation.draw_view(200, 8, 8, generator)
        mix = augmentation.draw_mix(200, 8, 8, generator)
        mixed = mix.share * images + (1 - mix.share) * images[mix.partner]
        with torch.no_grad():
            own, theirs = student(mixed), teacher(mixed)
        target = torch.zeros(200, 2)
        target[range(200), labels] += mix.share
        target[range(200), labels[mix.partner]] += 1 - mix.share
        p, q = F.softmax(theirs / 4, 1), F.softmax(own / 4, 1)
        expected = 0.3 * F.cross_entropy(own, target, label_smoothing=0.1)
        expected += 0.7 * 16 * (p * (p.log() - q.log())).sum(1).mean()

        history = train(student, data, recipe, teacher=teacher)

        assert 0.02 < mix.share < 0.98
        assert torch.allclose(teacher.shown[-1][0], mixed, atol=1e-6)
        assert history.epochs[0].train_loss == pytest.approx(float(expected), rel=1e-5)

    def test_a_net_learns_from_mixed_images_and_resumes_to_the_same_weights(self, data, tmp_path):
        mixing = Augmentation(padding=1, erase=0.3, cutout=2, mixup=0.4, cutmix=1.0, mix_probability=0.7)
        recipe = dataclasses.replace(RECIPE, augmentation=mixing)
        whole, resumed = net(), net(9)
        train(whole, data, recipe)
        with pytest.raises(Stop):
            train(net(), data, recipe, state_file=tmp_path / "state", on_epoch=stop_after(2))
        train(resumed, data, recipe, state_file=tmp_path / "state", resume=True)
        assert same_weights(whole, resumed)
        assert evaluate(whole, data.test.images, data.test.labels).accuracy > 0.9


class TestAveragedWeights:
    def test_the_average_is_what_is_validated_and_kept(self, data):
        """One epoch of one step: the average moves by 1 - 2/11 towards the new weights and statistics."""
        recipe = dataclasses.replace(RECIPE, epochs=1, batch_size=200, ema=Ema(decay=0.999))
        plain, averaged, start = net(), net(), net().state_dict()
        train(plain, data, dataclasses.replace(recipe, ema=None))
        history = train(averaged, data, recipe)
        moved = plain.state_dict()
        for key, value in averaged.state_dict().items():
            if key.endswith("num_batches_tracked"):
                assert value == 1
            else:
                assert torch.allclose(value, start[key] + (1 - 2 / 11) * (moved[key] - start[key]), atol=1e-6)
        validation = evaluate(averaged, data.validation.images, data.validation.labels)
        assert validation.loss == pytest.approx(history.best.validation_loss, rel=1e-5)

    def test_the_decay_warms_up_to_its_value(self):
        decays = [Ema(decay=0.9).decay_at(step) for step in range(1, 200)]
        assert decays[0] == 2 / 11
        assert decays == sorted(decays)
        assert decays[-1] == 0.9

    def test_it_resumes_to_the_same_weights(self, data, tmp_path):
        recipe = dataclasses.replace(RECIPE, ema=Ema(decay=0.95))
        whole, resumed = net(), net(9)
        train(whole, data, recipe)
        with pytest.raises(Stop):
            train(net(), data, recipe, state_file=tmp_path / "state", on_epoch=stop_after(2))
        train(resumed, data, recipe, state_file=tmp_path / "state", resume=True)
        assert same_weights(whole, resumed)


def test_an_early_stop_comes_after_its_patience_and_stays_on_resume(data, tmp_path):
    recipe = dataclasses.replace(RECIPE, epochs=30, early_stop=EarlyStop(patience=2, min_delta=0.5))
    module, state = net(), tmp_path / "state"
    history = train(module, data, recipe, state_file=state)
    # The first epoch has over half of the images right, so none after it can be better by half.
    assert (history.stopped, len(history.epochs)) == ("early", 3)
    again = train(net(5), data, recipe, state_file=state, resume=True)
    assert again == history


@pytest.mark.parametrize(
    ("accuracies", "due"),
    [
        ([0.5], False),
        ([0.5, 0.5], False),
        ([0.5, 0.5, 0.5], True),
        ([0.5, 0.5, 0.6, 0.6], False),
        ([0.5, 0.505, 0.509], True),  # each a little better, none by more than a point
        ([0.5, 0.505, 0.511], False),
    ],
)
def test_patience_counts_epochs_without_a_real_gain(accuracies, due):
    assert EarlyStop(patience=2, min_delta=0.01).due(accuracies) == due


def test_a_state_of_a_version_with_fewer_options_is_resumed(data, tmp_path):
    state, whole, resumed = tmp_path / "state", net(), net(9)
    train(whole, data, RECIPE)
    with pytest.raises(Stop):
        train(net(), data, RECIPE, state_file=state, on_epoch=stop_after(2))
    content = torch.load(state, weights_only=True)
    recipe = content["fingerprint"]["recipe"]
    for key in ("ema", "early_stop", "loss", "step", "sync_batch_norm"):
        del recipe[key]
    recipe["augmentation"] = {"padding": 0, "flip": True}
    del content["fingerprint"]["workers"], content["average"], content["average_steps"]
    torch.save(content, state)
    train(resumed, data, RECIPE, state_file=state, resume=True)
    assert same_weights(whole, resumed)
    with pytest.raises(TrainingError, match=r"other recipe .*ema: None there"):
        train(net(), data, dataclasses.replace(RECIPE, ema=Ema()), state_file=state, resume=True)
