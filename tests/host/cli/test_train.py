import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from host.cli.train import command
from host.compress.recipe_file import RecipeInvalid
from host.compress.training import TrainingError
from host.datasets.dataset import DataError
from host.zoo.checkpoint import load_checkpoint
from host.zoo.registry import ModelError, load_model

SIZES = ["--width", "0.25", "--batch-size", "8", "--threads", "1"]


@pytest.fixture
def data(tmp_path):
    random = np.random.default_rng(0)
    labels = np.arange(60) % 2
    images = random.integers(0, 100, (60, 8, 8), dtype=np.uint8)
    images[labels == 1] += 120
    path = tmp_path / "bright.npz"
    np.savez(path, x_train=images, y_train=labels, x_test=images[:20], y_test=labels[:20])
    return f"npz:{path}"


def invoke(*arguments):
    return CliRunner().invoke(command, [str(item) for item in arguments], catch_exceptions=False)


def test_it_writes_a_checkpoint_that_loads_and_says_how_it_was_made(tmp_path, data):
    out = tmp_path / "new" / "net.pt"
    done = invoke("resnet20", "--data", data, "--out", out, "--epochs", 2, *SIZES, "--no-flip", "--json")

    result = json.loads(done.stdout)
    assert (done.exit_code, result["schema"], result["data"]) == (0, 1, "npz:bright")
    assert [record["epoch"] for record in result["epochs"]] == [1, 2]
    assert done.stderr.count("validation accuracy") == 2
    assert not list(out.parent.glob("*.partial"))
    model = load_model("resnet20", checkpoint=out)
    assert (model.input_shape, model.num_classes, model.arguments["width"]) == ((1, 8, 8), 2, 0.25)
    assert model.preprocess is not None
    metadata = load_checkpoint(out).metadata
    assert metadata["test_accuracy"] == result["accuracy"]
    assert metadata["command"] == result["command"]
    assert result["command"].startswith("host train resnet20 --data npz:")
    assert (
        "--out net.pt --epochs 2 --batch-size 8 --learning-rate 0.05 --width 0.25 --seed 0 --no-flip"
        in metadata["command"]
    )


def test_the_table_names_what_matters(tmp_path, data):
    done = invoke("resnet20", "--data", data, "--out", tmp_path / "net.pt", "--epochs", 1, *SIZES)
    for word in ("test accuracy", "of 20 images", "MACs", "parameters", "net.pt"):
        assert word in done.stdout


def test_a_killed_training_resumes_to_the_same_weights(tmp_path, data):
    options = ["resnet20", "--data", data, "--epochs", "3", *SIZES]
    whole, cut = tmp_path / "whole.pt", tmp_path / "cut.pt"
    assert invoke(*options, "--out", whole).exit_code == 0
    code = "from host.cli.train import command; command()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, *options, "--out", str(cut)],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("epoch 1/3"):
            process.send_signal(signal.SIGKILL)
            break
    process.stderr.close()
    assert process.wait() == -signal.SIGKILL
    assert not cut.exists()

    with pytest.raises(DataError, match=r"cut\.pt\.partial holds an unfinished training: add --resume"):
        invoke(*options, "--out", cut)
    done = invoke(*options, "--out", cut, "--resume")

    assert done.exit_code == 0
    assert "epoch 1/3" not in done.stderr
    first, second = load_checkpoint(whole), load_checkpoint(cut)
    assert all(torch.equal(value, second.state[key]) for key, value in first.state.items())
    assert not (tmp_path / "cut.pt.partial").exists()


def test_without_out_the_checkpoint_goes_to_the_data_folder(tmp_path, data, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    done = invoke("resnet20", "--data", data, "--epochs", 1, *SIZES, "--json")
    path = Path(json.loads(done.stdout)["checkpoint"])
    assert path.parent == tmp_path / "share" / "boardfit" / "checkpoints"
    assert path.name.startswith("resnet20-w0.25-npz-")
    assert load_checkpoint(path).architecture == "resnet20"


def test_a_recipe_file_under_the_options(tmp_path, data):
    recipe, out = tmp_path / "recipe.toml", tmp_path / "net.pt"
    recipe.write_text(
        "epochs = 9\nmomentum = 0.8\n[augmentation]\npadding = 1\n[early_stop]\npatience = 1\nmin_delta = 0.9\n"
    )
    done = invoke("resnet20", "--data", data, "--out", out, "--recipe", recipe, *SIZES, "--no-flip", "--json")
    result, used = json.loads(done.stdout), load_checkpoint(out).metadata["recipe"]
    assert (used["epochs"], used["momentum"], used["batch_size"]) == (9, 0.8, 8)
    assert (used["augmentation"]["padding"], used["augmentation"]["flip"]) == (1, False)
    assert result["stopped"] == "early"
    assert 1 < len(result["epochs"]) < 9
    assert f"--recipe {recipe} --epochs 9" in result["command"]
    recipe.write_text("distillation = true")
    with pytest.raises(RecipeInvalid, match=r"recipe\.toml: \[distillation\] is for host compress"):
        invoke("resnet20", "--data", data, "--out", out, "--recipe", recipe)


@pytest.mark.parametrize(
    "options",
    [
        ["resnet20"],
        ["resnet20", "--data", "fashion-mnist", "--epochs", "0"],
        ["resnet20", "--data", "fashion-mnist", "--learning-rate", "nan"],
        ["resnet20", "--data", "fashion-mnist", "--learning-rate", "inf"],
        ["resnet20", "--data", "fashion-mnist", "--batch-size", "1"],
        ["resnet20", "--data", "fashion-mnist", "--width", "0"],
    ],
)
def test_wrong_use_ends_with_2(options):
    done = invoke(*options)
    assert done.exit_code == 2
    assert "Error" in done.stderr


def test_errors_come_before_the_training(tmp_path, data):
    with pytest.raises(ModelError, match="no model 'resnet19'"):
        invoke("resnet19", "--data", data, "--out", tmp_path / "net.pt")
    with pytest.raises(DataError, match="there is no data 'mnist'"):
        invoke("resnet20", "--data", "mnist", "--out", tmp_path / "net.pt")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"folder of .* cannot be made"):
        invoke("resnet20", "--data", data, "--out", tmp_path / "file" / "net.pt")


def test_a_model_that_does_not_fit_the_data(tmp_path, data, monkeypatch):
    (tmp_path / "own_wide.py").write_text(
        "from torch import nn\ndef net():\n    return nn.Sequential(nn.Flatten(), nn.Linear(48, 5)), (3, 4, 4)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(sys.path))
    with pytest.raises(DataError, match=r"own_wide:net takes images of 3x4x4 .* has 1x8x8; own_wide:net has 5 outputs"):
        invoke("own_wide:net", "--data", data, "--out", tmp_path / "net.pt")


def test_a_loss_that_is_not_finite(tmp_path, data):
    out = tmp_path / "net.pt"
    with pytest.raises(TrainingError, match=r"loss became nan in epoch 1, step 2"):
        invoke("resnet20", "--data", data, "--out", out, *SIZES, "--learning-rate", "1e30")
    assert not out.exists()
