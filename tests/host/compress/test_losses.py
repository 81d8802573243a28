import dataclasses

import pytest
import torch
import torch.nn.functional as F
import training_nets
from torch import nn
from training_nets import RECIPE, net, same_weights, squared_error, stripes, to_the_teacher

from host.compress.history import TrainingError
from host.compress.losses import Objective, label_loss, needs_teacher, takes_teacher
from host.compress.recipe import Distillation, Recipe
from host.compress.training import train
from host.datasets.augment import Augmentation
from host.user_code import UserCodeError


@pytest.fixture(scope="module")
def data():
    return stripes()


@pytest.fixture(scope="module")
def everything():
    """All images in one step that moves nothing, by a net without dropout."""
    return Recipe(epochs=1, batch_size=200, learning_rate=1e-20, augmentation=None, threads=1)


def linear(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 2))


def outputs(data, *nets):
    images, labels = torch.from_numpy(data.train.images), torch.from_numpy(data.train.labels)
    with torch.no_grad():
        return [each(images) for each in nets], labels


def first_loss(data, recipe, student, teacher=None):
    return train(student, data, recipe, teacher=teacher).epochs[0].train_loss


def test_a_loss_of_labels_takes_the_place_of_the_cross_entropy(data, everything):
    student, teacher = linear(), net(1).eval()
    (own, theirs), labels = outputs(data, student, teacher)
    recipe = dataclasses.replace(everything, loss="training_nets:squared_error")
    expected = squared_error(own, labels)
    assert first_loss(data, recipe, student) == pytest.approx(float(expected), rel=1e-5)

    p, q = F.softmax(theirs / 4, 1), F.softmax(own / 4, 1)
    both = 0.3 * expected + 0.7 * 16 * (p * (p.log() - q.log())).sum(1).mean()
    recipe = dataclasses.replace(recipe, distillation=Distillation())
    assert first_loss(data, recipe, student, teacher) == pytest.approx(float(both), rel=1e-5)


def test_a_loss_that_takes_the_teachers_logits_is_the_whole_loss(data, everything):
    student, teacher = linear(), net(1).eval()
    (own, theirs), _ = outputs(data, student, teacher)
    recipe = dataclasses.replace(everything, loss="training_nets:to_the_teacher", distillation=Distillation())
    assert first_loss(data, recipe, student, teacher) == pytest.approx(float((own - theirs).square().mean()), rel=1e-5)
    alone = dataclasses.replace(recipe, distillation=None)
    assert first_loss(data, alone, student, teacher) == pytest.approx(float((own - theirs).square().mean()), rel=1e-5)
    with pytest.raises(TrainingError, match="loss function training_nets:to_the_teacher takes a teacher's logits"):
        train(student, data, alone)


def test_a_step_with_the_usual_loss_changes_nothing(data):
    usual, stepped = net(), net()
    recipe = dataclasses.replace(RECIPE, epochs=2, augmentation=Augmentation(padding=1, cutmix=1.0))
    train(usual, data, recipe)
    training_nets.steps.clear()
    history = train(stepped, data, dataclasses.replace(recipe, step="training_nets:counted_step"))
    assert same_weights(usual, stepped)
    assert training_nets.steps == [(epoch, step, 16) for epoch in (1, 2) for step in range(1, 13)]
    assert all(record.train_accuracy is None for record in history.epochs)


def test_an_error_inside_is_told_with_the_functions_name_and_traceback(data):
    with pytest.raises(TrainingError) as caught:
        train(net(), data, dataclasses.replace(RECIPE, loss="training_nets:broken_loss"))
    text = str(caught.value)
    assert text.startswith("the loss function training_nets:broken_loss failed with IndexError: ")
    assert "training_nets.py" in text
    assert "labels.max() + 7" in text
    assert "losses.py" not in text  # their frames, not ours
    assert isinstance(caught.value.__cause__, IndexError)


def constant(logits, labels):
    return torch.tensor(1.0)


def per_image(logits, labels):
    return logits.sum(1)


def number(logits, labels):
    return 0.5


def endless(logits, labels):
    return (logits * 0).sum() / 0


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (constant, "returned a loss without a gradient"),
        (per_image, r"returned a tensor of shape \(16,\); it must return a scalar"),
        (number, "returned float; it must return a scalar"),
        (endless, "the loss became nan in epoch 1, step 1 of 12.* and training_nets:tried for divisions"),
    ],
)
def test_what_is_no_loss_is_refused(data, monkeypatch, function, message):
    monkeypatch.setattr(training_nets, "tried", function, raising=False)
    with pytest.raises(TrainingError, match=message):
        train(net(), data, dataclasses.replace(RECIPE, loss="training_nets:tried"))


def test_functions_that_cannot_be_had():
    with pytest.raises(UserCodeError, match="has no callable named missing"):
        Objective(dataclasses.replace(RECIPE, step="training_nets:missing"), None)
    with pytest.raises(TrainingError, match=r"must take \(logits, labels\) or \(logits, labels, teacher_logits\)"):
        takes_teacher(lambda logits: logits, "loss function own:one")


def test_what_the_parameters_of_a_loss_mean():
    assert not takes_teacher(squared_error, "")
    assert takes_teacher(to_the_teacher, "")
    assert not takes_teacher(F.cross_entropy, "")  # its third is a weight, with a default


def test_who_needs_a_teacher():
    assert not needs_teacher(RECIPE)
    assert needs_teacher(dataclasses.replace(RECIPE, distillation=Distillation()))
    assert needs_teacher(dataclasses.replace(RECIPE, step="training_nets:counted_step"))
    assert needs_teacher(dataclasses.replace(RECIPE, loss="training_nets:to_the_teacher"))
    assert not needs_teacher(dataclasses.replace(RECIPE, loss="training_nets:squared_error"))


def test_the_loss_for_criteria_is_the_users_where_it_needs_no_teacher():
    logits, labels = torch.randn(4, 2, requires_grad=True), torch.tensor([0, 1, 1, 0])
    found = label_loss(dataclasses.replace(RECIPE, loss="training_nets:squared_error"))
    assert found is not None
    assert torch.equal(found(logits, labels), squared_error(logits, labels))
    assert label_loss(RECIPE) is None
    assert label_loss(dataclasses.replace(RECIPE, loss="training_nets:to_the_teacher")) is None
