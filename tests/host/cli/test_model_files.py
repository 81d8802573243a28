"""Files of models that are given by name."""

from __future__ import annotations

from pathlib import Path

from host.cli.model_files import model_file


def test_a_zoo_model_is_the_same_artifact_each_time(tmp_path: Path) -> None:
    """Its measurements of two nights would else be of two artifacts, and no history."""
    contents = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        contents.append(model_file("resnet20", tmp_path / name, None)[0].read_bytes())
    assert contents[0] == contents[1]
