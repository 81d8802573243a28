"""What a machine says of itself. The facts of the synthetic boards are in their golden files, see test_sensors.py."""

from __future__ import annotations

import os
import platform
from dataclasses import replace
from pathlib import Path

import pytest
from boards import unpacked

from device_agent import profiles
from device_agent.agent import default_threads
from device_agent.board import describe_board
from device_agent.contract.errors import InvalidRequest


def test_a_named_profile_wins_and_an_unknown_one_lists_the_known(tmp_path: Path) -> None:
    root = unpacked("vm", tmp_path)
    facts = describe_board(root, profile="pi3", usable_cpus=2)
    assert (facts.profile, facts.default_threads, facts.throttle_temperature_c) == ("pi3", 2, 80.0)
    with pytest.raises(InvalidRequest, match=r"'pi99'; known: .*pi4"):
        describe_board(root, profile="pi99")


def test_this_machine_has_memory_and_processors() -> None:
    facts = describe_board()
    assert 1 <= facts.cores <= len(os.sched_getaffinity(0))
    assert facts.memory_bytes > 64 << 20
    assert facts.architecture == platform.machine()
    assert facts.cpu
    assert facts.kernel


def test_default_threads_stay_on_the_processors_that_the_worker_is_pinned_to(tmp_path: Path) -> None:
    board = describe_board(unpacked("vm", tmp_path), usable_cpus=4)
    four, one = replace(profiles.get("pi4"), threads=4), replace(profiles.get("pi4"), threads=1)
    assert default_threads(board, four) == 4
    assert default_threads(board, four, (2, 3)) == 2
    assert default_threads(board, None, (3,)) == 1
    assert default_threads(board, one, (0, 1)) == 1
