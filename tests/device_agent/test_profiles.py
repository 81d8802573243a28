"""Device profiles: the files that ship, recognition, and what a wrong file is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from device_agent.contract.errors import InvalidRequest
from device_agent.profiles import ProfileInvalid, all_profiles, get, parse, recognise

NAMES = ["jetson-agx-orin", "jetson-nano", "jetson-orin-nano", "pi-zero-2w", "pi3", "pi4", "pi5", "x86"]
GOOD = """
name = "acme"
title = "Acme board"
[match]
compatible = ["acme,*"]
[board]
cores = 2
source = "data sheet"
"""


def test_every_profile_that_ships_is_valid_and_sourced() -> None:
    profiles = all_profiles()
    assert list(profiles) == NAMES
    for profile in profiles.values():
        assert all(profile.sources)
        assert profile.threads is None or profile.cores is None or profile.threads <= profile.cores
        assert {wheels.name for wheels in profile.runtimes} <= {"onnxruntime", "litert", "tflite-runtime"}


@pytest.mark.parametrize(
    ("compatible", "architecture", "name"),
    [
        (["raspberrypi,3-model-b-plus", "brcm,bcm2837"], "aarch64", "pi3"),
        (["raspberrypi,model-zero-2-w", "brcm,bcm2837"], "aarch64", "pi-zero-2w"),
        (["raspberrypi,4-model-b", "brcm,bcm2711"], "armv7l", "pi4"),
        (["raspberrypi,4s-compute-module", "brcm,bcm2711"], "aarch64", "pi4"),
        (["raspberrypi,3-plus-compute-module", "brcm,bcm2837"], "aarch64", "pi3"),
        (["raspberrypi,5-model-b", "brcm,bcm2712"], "aarch64", "pi5"),
        (["nvidia,jetson-nano", "nvidia,tegra210"], "aarch64", "jetson-nano"),
        (["nvidia,p3768-0000+p3767-0005-super", "nvidia,p3767-0005", "nvidia,tegra234"], "aarch64", "jetson-orin-nano"),
        (["nvidia,p3737-0000+p3701-0008", "nvidia,p3701-0008", "nvidia,tegra234"], "aarch64", "jetson-agx-orin"),
        (["nvidia,p3737-0000+p3701-0005", "nvidia,p3701-0005", "nvidia,tegra234"], "aarch64", "jetson-agx-orin"),
        (["nvidia,p3768-0000+p3767-0000", "nvidia,p3767-0000", "nvidia,tegra234"], "aarch64", None),  # Orin NX
        ([], "x86_64", "x86"),
        ([], "riscv64", None),
        (["acme,board"], "x86_64", None),  # a device tree that nobody knows beats the architecture
    ],
)
def test_boards_are_recognised(compatible: list[str], architecture: str, name: str | None) -> None:
    found = recognise(compatible, architecture)
    assert (found.name if found else None) == name


def test_a_good_file_reads_and_absent_is_none() -> None:
    profile = parse(GOOD, "acme.toml")
    assert (profile.cores, profile.threads, profile.throttle_temperature_c) == (2, None, None)
    assert recognise(["acme,one"], "aarch64", [profile]) is profile


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("cores = 2", "cores = 2.5"), r"acme.toml: cores in table \[board\] is 2.5; it must be int"),
        (("cores = 2", "cores = 0"), r"cores in table \[board\] is 0; it must be positive"),
        (("cores = 2", "coers = 2"), r"table \[board\] has an unknown key 'coers'; it may have soc, cpu, cores"),
        (("cores = 2", "cores = true"), "it must be int"),
        (('source = "data sheet"', ""), r"table \[board\] lacks the key 'source'"),
        (('name = "acme"', ""), "the top of the file lacks the key 'name'"),
        (('["acme,*"]', '"acme"'), "it must be a list of str"),
        (('compatible = ["acme,*"]', ""), r"\[match\] needs compatible"),
        (("[board]", "[bord]"), "unknown key 'bord'|table .board. is missing"),
        (("[board]", "[power]\nmax_w = 5\n[board]"), r"\[power\] gives figures without a source"),
        (("[board]", '[sensors]\nexpected = ["smell"]\n[board]'), r"names \['smell'\]; known are cgroup-cpu, cpufreq"),
        (("[board]", "[runtimes]\n[board]"), "must be an array of tables"),
        (("[board]", "board = 1 ="), "not a TOML file"),
    ],
)
def test_a_wrong_file_is_told_where_and_what(change: tuple[str, str], message: str) -> None:
    assert change[0] in GOOD
    with pytest.raises(ProfileInvalid, match=message):
        parse(GOOD.replace(*change), "acme.toml")


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(InvalidRequest, match="'pi99'; known: jetson-agx-orin"):
        get("pi99")


def test_the_guide_names_every_table_and_key() -> None:
    from device_agent.profiles import _SCHEMA

    guide = (Path(__file__).parents[2] / "docs" / "profiles.md").read_text()
    for table, keys in _SCHEMA.items():
        for key in (table, *keys):
            assert key in guide, f"docs/profiles.md does not explain {key!r}"
