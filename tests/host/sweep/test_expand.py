"""Combinations, keys and orders of jobs; properties over random sweeps."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st
from made_up import DEVICE

from device_agent.contract.artifact import ArtifactFormat
from device_agent.contract.device import RuntimeInfo
from device_agent.contract.errors import InvalidRequest
from host.sweep.expand import EmptySweep, SweepDevice, expand, job_key, matches_device, options_text
from host.sweep.job import SweepArtifact
from host.sweep.spec import parse_spec

ARTIFACTS = tuple(
    SweepArtifact(name=name, path=Path("/m") / name, sha256=f"{number:064x}")
    for number, name in enumerate(("a.onnx", "b.onnx", "c.tflite"))
)
DEVICES = (
    SweepDevice(name="pi-1", profile="pi4", tags=("lab",)),
    SweepDevice(name="pi-2", profile="pi4"),
    SweepDevice(name="jet", profile="jetson-nano"),
)


def expanded(text: str, artifacts=ARTIFACTS[:2], devices=DEVICES, number: int = 7):
    spec = parse_spec(f'name = "s"\nartifacts = "x"\ndevices = "y"\n{text}', path=Path("/m/s.toml"))
    return expand(spec, artifacts, devices, seed=number)


def combos(text: str, **more) -> Counter:
    return Counter((job.artifact.name, job.device, options_text(job.options)) for job in expanded(text, **more).jobs)


def test_the_product() -> None:
    found = combos("repeats = 2\n[settings]\nmin-time = 1\n[matrix]\nthreads = [1, 2]")
    assert len(found) == 2 * 3 * 2
    assert set(found.values()) == {2}
    assert ("a.onnx", "jet", "--min-time 1 --threads 2") in found


def test_excludes_take_from_the_matrix_and_includes_add() -> None:
    found = combos(
        '[matrix]\nthreads = [1, 2]\n[[exclude]]\nartifact = "a"\ndevice = "profile:pi4"\nthreads = 2\n'
        '[[include]]\ndevice = "pi-*,!pi-2"\nthreads = 2\nnice = [3, 4]\n[[include]]\nthreads = 1'
    )
    for device in ("pi-1", "pi-2"):
        assert ("a.onnx", device, "--threads 2") not in found
        assert ("b.onnx", device, "--threads 2") in found
    assert ("a.onnx", "jet", "--threads 2") in found
    extra = {key for key in found if "--nice" in key[2]}
    assert extra == {(name, "pi-1", f"--threads 2 --nice {nice}") for name in ("a.onnx", "b.onnx") for nice in (3, 4)}
    assert set(found.values()) == {1}  # what is included again is no second job


def test_an_exclude_without_effect_is_noted_and_an_include_refused() -> None:
    assert "[[exclude]] number 1 (artifact z*) matches nothing" in expanded('[[exclude]]\nartifact = "z*"').notes
    with pytest.raises(InvalidRequest, match=r"number 1 \(device pi-9\).*matches no artifact and device.*pi-1"):
        expanded('[[include]]\ndevice = "pi-9"')


def test_what_cannot_be_is_left_out_with_a_note() -> None:
    found = expanded('[matrix]\nruntime = ["onnxruntime", "litert", "mine"]', artifacts=ARTIFACTS)
    pairs = {(job.artifact.name, job.options["runtime"]) for job in found.jobs}
    assert pairs == {
        ("a.onnx", "onnxruntime"), ("b.onnx", "onnxruntime"), ("c.tflite", "litert"),
        ("a.onnx", "mine"), ("b.onnx", "mine"), ("c.tflite", "mine"),
    }  # fmt: skip
    assert found.notes == (
        "6 combinations are left out: litert does not load .onnx files",
        "3 combinations are left out: onnxruntime does not load .tflite files",
    )
    own = RuntimeInfo(name="mine", version="1", formats=(ArtifactFormat.TFLITE,), providers=())
    known = tuple(replace(device, info=replace(DEVICE, runtimes=(own,))) for device in DEVICES)
    found = expanded('[settings]\nruntime = "mine"', artifacts=ARTIFACTS, devices=known)
    assert {job.artifact.name for job in found.jobs} == {"c.tflite"}


def test_a_sweep_without_jobs_says_why() -> None:
    with pytest.raises(EmptySweep, match=r"litert does not load \.onnx files"):
        expanded('[settings]\nruntime = "litert"')


def test_options_that_clash_are_an_error() -> None:
    with pytest.raises(InvalidRequest, match=r"a.onnx with --provider-option a=1: --provider-option needs --provider"):
        expanded('[settings]\nprovider-option = "a=1"')


def test_jobs_may_move_between_equal_devices_only() -> None:
    def moves(*devices: SweepDevice) -> dict[str, tuple[str, ...]]:
        return {job.device: job.movable_to for job in expanded("", ARTIFACTS[:1], devices).jobs}

    assert moves(*DEVICES) == {"pi-1": ("pi-2",), "pi-2": ("pi-1",), "jet": ()}
    first = replace(DEVICES[0], info=DEVICE)
    assert moves(first, replace(DEVICES[1], info=replace(DEVICE, device_id="other")))["pi-1"] == ("pi-2",)
    assert moves(first, replace(DEVICES[1], info=replace(DEVICE, governor="powersave")))["pi-1"] == ()
    assert moves(SweepDevice(name="local", profile="pi4"), DEVICES[1])["pi-2"] == ()


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("pi-*", {"pi-1", "pi-2"}), ("profile:jetson*", {"jet"}), ("tag:lab", {"pi-1"}), ("!tag:lab", {"pi-2", "jet"}),
        ("all,!jet", {"pi-1", "pi-2"}), ("jet,pi-2", {"jet", "pi-2"}), ("profile:pi4,!pi-2", {"pi-1"}), ("pi", set()),
    ],
)  # fmt: skip
def test_patterns_of_devices(pattern: str, names: set[str]) -> None:
    assert {device.name for device in DEVICES if matches_device(pattern, device)} == names


@seed(5)
@settings(max_examples=60, deadline=None, database=None)
@given(
    artifacts=st.integers(1, 3), devices=st.integers(1, 3), threads=st.integers(1, 3), repeats=st.integers(1, 4),
    number=st.integers(0, 2**32),
)  # fmt: skip
def test_orders(artifacts: int, devices: int, threads: int, repeats: int, number: int) -> None:
    text = f"repeats = {repeats}\n[matrix]\nthreads = {list(range(1, threads + 1))}"
    files = ARTIFACTS[:artifacts]
    jobs = expanded(text, files, DEVICES[:devices], number).jobs
    assert jobs == expanded(text, files, DEVICES[:devices], number).jobs
    assert [job.position for job in jobs] == list(range(len(jobs)))
    assert len({job.key for job in jobs}) == len(jobs) == artifacts * devices * threads * repeats
    # Keys do not hang on the seed or on what else is in the file.
    assert {job.key for job in jobs} == {job.key for job in expanded(text, files, DEVICES[:devices], number + 1).jobs}
    assert all(job.key == job_key(job.artifact.sha256, job.device, job.options, job.repeat) for job in jobs)
    for device in DEVICES[:devices]:
        own = [job for job in jobs if job.device == device.name]
        things = [(job.artifact.name, job.options["threads"]) for job in own]
        size = artifacts * threads
        # Round after round over all things, so that repeats lie apart.
        for repeat in range(repeats):
            turn = slice(repeat * size, (repeat + 1) * size)
            assert len(set(things[turn])) == size
            assert {job.repeat for job in own[turn]} == {repeat}
        if size > 1:
            assert all(one != next_ for one, next_ in itertools.pairwise(things))
        # Another device in the file changes nothing of this one's order.
        assert things == [
            (job.artifact.name, job.options["threads"]) for job in expanded(text, files, (device,), number).jobs
        ]
    # Devices take turns: none is ahead of another by more than one job.
    for place in range(1, len(jobs) + 1):
        counts = Counter(job.device for job in jobs[:place])
        assert max(counts.values()) - min(counts[device.name] for device in DEVICES[:devices]) <= 1


def test_the_seed_makes_the_order() -> None:
    text = "repeats = 3\n[matrix]\nthreads = [1, 2, 3, 4]"
    orders = {tuple(job.key for job in expanded(text, number=number).jobs) for number in range(5)}
    assert len(orders) == 5
