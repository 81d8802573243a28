"""The file of a sweep: what it may say, and how it is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from host.sweep.limits import CoolDown, Limits
from host.sweep.options import options_from_json
from host.sweep.spec import InvalidSweep, Rule, SweepSpec, parse_spec, read_spec

FILE = """
name = "nightly"
artifacts = ["models/*.onnx", "mobilenet_v2"]
devices = ["profile:pi4", "!pi4-broken"]
repeats = 3

[settings]
min-time = "5s"
precision = "2%"
provider = "XNNPACKExecutionProvider"
provider-option = { intra_op_num_threads = 2 }
memory-arena = false

[matrix]
threads = [1, 4]
runtime = ["onnxruntime", "litert"]

[[include]]
threads = 8
artifact = "mobilenet*"

[[exclude]]
device = "profile:pi4"
threads = [4, 8]

[[exclude]]
runtime = "litert"

[limits]
per-job = "10min"
attempts = 2
devices-at-once = 50
cool-down = "55C"
cool-down-limit = "2min"
wait-for-device = "1h"
move = true
"""


def parse(text: str) -> SweepSpec:
    return parse_spec(text, path=Path("/lab/night.toml"))


def test_everything_is_read() -> None:
    spec = parse(FILE)
    assert (spec.name, spec.repeats, spec.folder) == ("nightly", 3, Path("/lab"))
    assert spec.artifacts == ("models/*.onnx", "mobilenet_v2")
    assert spec.devices == ("profile:pi4", "!pi4-broken")
    assert spec.settings == {
        "memory_arena": False,
        "min_time": 5.0,
        "precision": 0.02,
        "provider": "XNNPACKExecutionProvider",
        "provider_option": [["intra_op_num_threads", "2"]],
    }
    assert spec.matrix == {"threads": (1, 4), "runtime": ("onnxruntime", "litert")}
    assert spec.includes == (Rule(artifact="mobilenet*", device=None, settings={"threads": (8,)}),)
    assert spec.excludes == (
        Rule(artifact=None, device="profile:pi4", settings={"threads": (4, 8)}),
        Rule(artifact=None, device=None, settings={"runtime": ("litert",)}),
    )
    assert spec.limits == Limits(
        per_job_s=600,
        attempts=2,
        devices_at_once=50,
        cool_down=CoolDown(below_c=55, limit_s=120),
        wait_s=3600,
        move=True,
    )
    request = options_from_json(spec.settings).request(("0" * 64,), runtime="onnxruntime")
    assert request.stopping.min_time_s == 5
    assert request.settings.provider_options == (("intra_op_num_threads", "2"),)
    assert request.settings.memory_arena is False


def test_what_is_not_said_has_a_default() -> None:
    spec = parse('artifacts = "a.onnx"\ndevices = "local"')
    assert (spec.name, spec.repeats, spec.limits) == ("night", 1, Limits())
    assert (spec.settings, spec.matrix, spec.includes, spec.excludes) == ({}, {}, (), ())


def test_inputs_start_from_the_file_of_the_sweep(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(b"")
    file = tmp_path / "s.toml"
    file.write_text('artifacts = "a.onnx"\ndevices = "local"\n[settings]\ninputs = "x.npz"\n')
    assert read_spec(file).settings == {"inputs": str(tmp_path / "x.npz")}


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("repeats = 3", "repeats = 0", "/lab/night.toml:5: repeats: 0 is not a whole number in 1..10000"),
        ("repeats = 3", "repeat = 3", "night.toml:5: repeat: is not known here; did you mean repeats? Allowed: name, "),
        ('min-time = "5s"', "min_time = 5", "night.toml:8: [settings] min_time: is no option of `host bench`.*min-time"),
        ('min-time = "5s"', 'min-time = "soon"', "night.toml:8: [settings] min-time: 'soon' is not a duration"),
        ("memory-arena = false", "memory-arena = 1", "[settings] memory-arena: 1 is neither true nor false"),
        ("threads = [1, 4]", "threads = 4", r"night.toml:15: [matrix] threads: must be a list of values, such as threads = [4]"),
        ("threads = [1, 4]", "threads = []", "[matrix] threads: is an empty list"),
        ("threads = [1, 4]", "threads = [4, 4]", "[matrix] threads: names 4 twice"),
        ("threads = [1, 4]", "threads = [0]", "[matrix] threads: 0 is not in 1..1024"),
        ("threads = [1, 4]", "threads = [true]", "[matrix] threads: true is not a text or a number"),
        ("threads = [1, 4]", 'min-time = ["1s"]', "[matrix] min-time: is in [settings] too"),
        ("[4, 8]", "[4, 8000]", "night.toml:24: [[exclude]] threads: 8000 is not in 1..1024"),
        ('[[exclude]]\nruntime = "litert"', "[[exclude]]", "night.toml:26: [[exclude]] is empty"),
        ('[[exclude]]\nruntime = "litert"', "[[exclude]]\ndevices = 1", "night.toml:27: [[exclude]] devices: .*mean device?"),
        ('name = "nightly"', 'name = "#3"', "name: '#3' is no name"),
        ("attempts = 2", "attempts = 0", "[limits] attempts = 0 is not in 1..100"),
        ("attempts = 2", "atempts = 2", "night.toml:31: [limits] atempts: is not known here; did you mean attempts?"),
        ('"55C"', '"warm"', "night.toml:33: [limits] cool-down = 'warm' is neither \"back\" nor a temperature"),
        ('cool-down = "55C"\n', "", "cool-down-limit has no effect without cool-down"),
        ("move = true", "move = 1", "[limits] move = 1 is neither true nor false"),
        ('per-job = "10min"', 'per-job = "x"', "[limits] per-job: 'x' is not a duration"),
        ('devices = ["profile:pi4", "!pi4-broken"]', "devices = []", "night.toml:4: devices: must be a list of names and"),
        ("repeats = 3", "repeats = ", "night.toml is not TOML: .*line 5"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_place(old: str, new: str, says: str) -> None:
    assert FILE.count(old) == 1
    with pytest.raises(InvalidSweep) as caught:
        parse(FILE.replace(old, new))
    for part in says.split(".*"):
        assert part in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidSweep, match=r"cannot read .*none\.toml: No such file"):
        read_spec(tmp_path / "none.toml")
