import subprocess
import sys

import pytest
import torch
from torch import nn

from host.datasets.dataset import Normalisation
from host.user_code import UserCodeError
from host.zoo import registry
from host.zoo.checkpoint import Checkpoint, CheckpointError, load_checkpoint, save_checkpoint
from host.zoo.registry import ModelError, find_checkpoint, load_model, names

TINY = {"width": 0.25, "input_size": 8, "in_channels": 1, "num_classes": 3}

MODULE = """
import torch
from torch import nn

def net(channels=1, size=4, classes=3):
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * size * size, classes))

def from_data(in_channels, input_size, num_classes):
    return net(in_channels, input_size, num_classes)

def with_tuple():
    return net(), (1, 4, 4)

def with_attribute(width=1.0):
    module = net()
    module.input_shape = (1, 4, 4)
    return module

def wrong_shape():
    return net(), (1, 5, 5)

def odd_shape():
    return net(), (4, 4)

def a_list():
    return [1]

def feature_map():
    return nn.Conv2d(1, 2, 1), (1, 4, 4)

def failing():
    raise RuntimeError("no weights here")
"""


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    name = f"own_model_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(sys.path))
    return name


def test_names_are_had_without_torch():
    code = (
        "import sys; from host.zoo.registry import names, find_checkpoint; from host.cli.train import command;"
        "find_checkpoint('mobilenet_v2', 'fashion-mnist'); print(names(), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{names()} False\n"
    assert names() == ("mobilenet_v2", "resnet20", "resnet56")


@pytest.mark.parametrize("name", names())
def test_every_name_builds_with_its_own_and_with_given_sizes(name):
    model = load_model(name, **TINY)
    assert (model.input_shape, model.num_classes, model.checkpoint) == ((1, 8, 8), 3, None)
    assert not model.module.training
    assert model.module(torch.zeros(1, 1, 8, 8)).shape == (1, 3)
    known = registry.entry(name)
    assert load_model(name).input_shape == (3, known.input_size, known.input_size)


def test_unknown_names_get_a_suggestion_and_the_list():
    with pytest.raises(ModelError, match=r"no model 'mobilenetv2'.*Did you mean mobilenet_v2\? It has mobilenet_v2, "):
        load_model("mobilenetv2")
    with pytest.raises(ModelError, match="resnet56; a model of your own"):
        load_model("vgg")
    with pytest.raises(ModelError, match="width must be positive, got -1"):
        load_model("resnet20", width=-1)


def test_factories(own_module):
    assert load_model(f"{own_module}:with_tuple").input_shape == (1, 4, 4)
    assert load_model(f"{own_module}:with_attribute", width=2.0).arguments == {"width": 2.0}
    model = load_model(f"{own_module}:from_data", in_channels=2, input_size=5, num_classes=7)
    assert (model.input_shape, model.num_classes) == ((2, 5, 5), 7)
    assert load_model(f"{own_module}:net", in_channels=1, input_size=4).input_shape == (1, 4, 4)


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("net", r"doesn't say its input shape. Return \(module, \(C, H, W\)\)"),
        ("wrong_shape", "fails on one image of 1x5x5"),
        ("odd_shape", r"gave the input shape \(4, 4\)"),
        ("a_list", "returned list"),
        ("feature_map", r"must return class scores of shape \(N, classes\), got \(1, 2, 4, 4\)"),
        ("failing", "RuntimeError: no weights here"),
    ],
)
def test_factories_that_fail(own_module, factory, message):
    with pytest.raises(ModelError, match=message):
        load_model(f"{own_module}:{factory}")


def test_other_mistakes_with_factories(own_module):
    with pytest.raises(ModelError, match="takes no width"):
        load_model(f"{own_module}:with_tuple", width=0.5)
    with pytest.raises(UserCodeError, match=r"has no callable named gone. It has: "):
        load_model(f"{own_module}:gone")


@pytest.fixture
def saved(tmp_path):
    model = load_model("resnet20", **TINY)
    path = tmp_path / "net.pt"
    save_checkpoint(
        path,
        Checkpoint(
            state=model.module.state_dict(),
            architecture="resnet20",
            arguments=model.arguments,
            metadata={"normalisation": {"mean": [0.5], "std": [0.25]}, "test_accuracy": 0.5},
        ),
    )
    return path, model


def test_a_checkpoint_brings_its_sizes_weights_and_normalisation(saved):
    path, model = saved
    again = load_model("resnet20", checkpoint=path)
    assert (again.input_shape, again.num_classes, again.checkpoint) == ((1, 8, 8), 3, path)
    assert again.preprocess == Normalisation(mean=(0.5,), std=(0.25,))
    assert again.arguments == model.arguments
    for key, value in model.module.state_dict().items():
        assert torch.equal(again.module.state_dict()[key], value)
    assert not list(path.parent.glob(".*"))


def test_arguments_that_contradict_the_checkpoint(saved):
    path, _ = saved
    with pytest.raises(ModelError, match=r"made with width=0.25, but width=0.5 is asked for"):
        load_model("resnet20", checkpoint=path, width=0.5)
    with pytest.raises(CheckpointError, match="holds a resnet20, not a resnet56"):
        load_model("resnet56", checkpoint=path)


def test_a_bare_state_dict_of_another_size(tmp_path, saved):
    _, model = saved
    path = tmp_path / "bare.pth"
    torch.save({f"module.{key}": value for key, value in model.module.state_dict().items()}, path)
    assert load_model("resnet20", checkpoint=path, **TINY).preprocess is None
    with pytest.raises(CheckpointError, match=r"does not fit this model.*conv1.weight is \(4, 1, 3, 3\) in the file"):
        load_model("resnet20", checkpoint=path)
    with pytest.raises(CheckpointError, match=r"missing layer1\.3"):
        load_model("resnet56", checkpoint=path, **TINY)


@pytest.mark.parametrize("keep", [0, 10, 2000, -1])
def test_a_damaged_checkpoint_is_named(saved, keep):
    path, _ = saved
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"net\.pt \(\d+ bytes\) cannot be read as a checkpoint"):
        load_checkpoint(path)


class Pickled:
    pass


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"format": 99}, "has checkpoint format 99, this version reads format 1"),
        ({"format": 1, "state": {"a": torch.zeros(1)}}, "lacks the entry 'architecture'"),
        ([1, 2], "holds no state dict"),
        ({}, "holds no state dict"),
        ({"a": 1}, "holds no state dict"),
        (nn.Linear(1, 1), "cannot be read as a checkpoint"),
    ],
)
def test_other_files_are_no_checkpoints(tmp_path, content, message):
    path = tmp_path / "other.pt"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(path)


def test_an_absent_checkpoint():
    with pytest.raises(CheckpointError, match=r"there is no checkpoint at nowhere.pt"):
        load_checkpoint(registry.Path("nowhere.pt"))


def test_packaged_weights_are_found_by_model_and_data():
    path = find_checkpoint("mobilenet_v2", "fashion-mnist")
    assert path is not None
    assert path.stat().st_size < 5_000_000
    model = load_model("mobilenet_v2", checkpoint=path)
    assert (model.input_shape, model.num_classes, model.arguments["width"]) == ((1, 32, 32), 10, 0.5)
    metadata = load_checkpoint(path).metadata
    assert metadata["test_accuracy"] >= 0.89
    assert metadata["command"].startswith("host train mobilenet_v2 --data fashion-mnist")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("resnet20", "fashion-mnist"),
        ("mobilenet_v2", "mnist"),
        ("mobilenet_v2", "npz:mine"),
        ("../weights/mobilenet_v2", "fashion-mnist"),
        ("*", "*"),
    ],
)
def test_no_packaged_weights(name, data):
    assert find_checkpoint(name, data) is None
