from pathlib import Path

import pytest

from host.compress.journal import Journal, JournalMismatch
from host.files import CannotWrite


def refuse() -> None:
    raise AssertionError("a finished step ran again")


def test_a_finished_step_is_not_repeated(tmp_path: Path) -> None:
    first = Journal(tmp_path, {"seed": 0})
    assert first.once("a", lambda: {"x": (1, 2)}) == {"x": [1, 2]}
    assert first.once("a", refuse) == {"x": [1, 2]}
    again = Journal(tmp_path, {"seed": 0})
    assert again.once("a", refuse) == {"x": [1, 2]}
    assert "a" in again
    assert "b" not in again


def test_a_torn_last_line_is_cut_off_and_its_step_runs_again(tmp_path: Path) -> None:
    journal = Journal(tmp_path, {"seed": 0})
    journal.once("a", lambda: 1)
    journal.once("b", lambda: 2)
    file = tmp_path / "journal.jsonl"
    whole = file.read_bytes()
    for cut in range(1, len(whole.splitlines()[-1]) + 1):
        file.write_bytes(whole[:-cut])
        again = Journal(tmp_path, {"seed": 0})
        assert again.once("a", refuse) == 1
        assert again.once("b", lambda: 3) == 3
        assert Journal(tmp_path, {"seed": 0}).once("b", refuse) == 3


def test_a_step_that_fails_is_not_recorded(tmp_path: Path) -> None:
    journal = Journal(tmp_path, {})
    with pytest.raises(AssertionError):
        journal.once("a", refuse)
    assert "a" not in Journal(tmp_path, {})


def test_other_options_are_refused_by_name(tmp_path: Path) -> None:
    Journal(tmp_path, {"seed": 0, "epochs": 10})
    with pytest.raises(JournalMismatch, match=r"other options: epochs \(10 there, 12 now\)\."):
        Journal(tmp_path, {"seed": 0, "epochs": 12})


def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "out").write_bytes(b"")
    with pytest.raises(CannotWrite, match=r"out.run: .*name another place"):
        Journal(tmp_path / "out" / "run", {})
