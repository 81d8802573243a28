import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from device_agent.contract.errors import InvalidRequest
from host.compress.finetune import check_recipe, recipe_for
from host.compress.options import CompressOptions, LatencyTarget
from host.compress.recipe import Distillation, EarlyStop, Ema, Recipe
from host.compress.recipe_file import TABLES, RecipeInvalid, laid_over, over_file, read_recipe, tomllib
from host.datasets.augment import Augmentation
from host.user_code import UserCodeError

DOCUMENT = Path(__file__).parents[3] / "docs" / "training.md"


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def to_file(text: str) -> Path:
        path = tmp_path / "recipe.toml"
        path.write_text(text)
        return path

    return to_file


def options(**changes: Any) -> CompressOptions:
    values: dict[str, Any] = {"model": "m", "data": "d", "target": LatencyTarget(ratio=0.5), **changes}
    return CompressOptions(**values)


def blocks() -> list[str]:
    return re.findall(r"```toml\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)


@pytest.mark.parametrize("text", blocks())
def test_the_documents_examples_are_recipes(write: Any, text: str) -> None:
    assert read_recipe(write(text)) == tomllib.loads(text)


def test_the_documents_first_example_names_every_key(write: Any) -> None:
    values = read_recipe(write(blocks()[0]))
    # Their own examples follow.
    assert {*values, "loss", "step"} == {field.name for field in dataclasses.fields(Recipe)}
    for name, table in TABLES.items():
        assert set(values[name]) == {field.name for field in dataclasses.fields(table)}
    assert "loss" in tomllib.loads(blocks()[1])
    assert "step" in tomllib.loads(blocks()[2])


def test_a_file_changes_what_it_names(write: Any) -> None:
    base = Recipe(distillation=Distillation(weight=0.5), augmentation=Augmentation(padding=2))
    values = read_recipe(
        write("momentum = 0\nema = true\n[distillation]\ntemperature = 2\n[early_stop]\npatience = 3\n")
    )
    assert laid_over(base, values, source="it") == dataclasses.replace(
        base,
        momentum=0,
        ema=Ema(),
        distillation=Distillation(temperature=2, weight=0.5),
        early_stop=EarlyStop(patience=3),
    )
    off = read_recipe(write("distillation = false\naugmentation = false"))
    assert laid_over(base, off, source="it") == dataclasses.replace(base, distillation=None, augmentation=None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epoch = 3", r"recipe\.toml has no key epoch, did you mean epochs\? Allowed are epochs, batch_size, "),
        (
            "[augmentation]\nmixupp = 1",
            r"\[augmentation\] has no key mixupp, did you mean mixup\? Allowed are padding, flip",
        ),
        ("[optimizer]\nname = 'adam'", "has no key optimizer"),
        ("epochs = 2.5", "epochs must be a whole number, got 2.5"),
        ("epochs = true", "epochs must be a whole number, got True"),
        ("learning_rate = '0.1'", "learning_rate must be a number, got '0.1'"),
        ("[augmentation]\nflip = 1", r"\[augmentation\] flip must be true or false, got 1"),
        ("loss = 3", "loss must be a text, got 3"),
        ("ema = 0.9", r"ema must be a table \[ema\], true or false, got 0.9"),
        ("epochs = 0", "epochs must be at least 1, got 0"),
        ("[ema]\ndecay = 1.0", r"\[ema\] decay must lie between 0 and 1, got 1.0"),
        ("[distillation]\nweight = 2", r"\[distillation\] weight must lie in 0 - 1, got 2"),
        ("[early_stop]\npatience = 0", r"\[early_stop\] patience must be at least 1"),
        ("[early_stop]\nmin_delta = -0.1", r"\[early_stop\] min_delta must lie in"),
        ("epochs = ", r"recipe\.toml is not a TOML file: Invalid value"),
    ],
)
def test_what_is_wrong_is_named_with_the_file_and_what_is_allowed(write: Any, text: str, message: str) -> None:
    with pytest.raises(RecipeInvalid, match=message) as caught:
        read_recipe(write(text))
    assert "recipe.toml" in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RecipeInvalid, match=r"none\.toml cannot be read: No such file"):
        read_recipe(tmp_path / "none.toml")


def test_options_go_before_the_file() -> None:
    values = {"epochs": 5, "seed": 3, "momentum": 0.5}
    assert over_file(values, epochs=2, seed=None, batch_size=None) == {"epochs": 2, "seed": 3}


def test_fine_tuning_has_defaults_of_its_own_under_the_file() -> None:
    assert recipe_for(options(), 3).distillation == Distillation()
    recipe = recipe_for(
        options(learning_rate=0.3, recipe={"epochs": 50, "learning_rate": 0.1, "ema": {"decay": 0.9}}), 3
    )
    # The options have what the command line made of both.
    assert (recipe.epochs, recipe.learning_rate, recipe.label_smoothing) == (3, 0.3, 0.0)
    assert recipe.ema == Ema(decay=0.9)


def test_the_recipe_belongs_to_a_compressions_identity() -> None:
    assert options(recipe={"ema": {"decay": 0.9}}).identity() != options().identity()
    assert options(workers=2).identity() != options().identity()


def test_what_would_fail_after_measuring_fails_before() -> None:
    check_recipe(options(recipe={"loss": "training_nets:squared_error"}))
    with pytest.raises(UserCodeError, match="no callable named nothing"):
        check_recipe(options(recipe={"step": "training_nets:nothing"}))
    with pytest.raises(InvalidRequest, match="temperature must be positive"):
        check_recipe(options(recipe={"distillation": {"temperature": 0}}))
