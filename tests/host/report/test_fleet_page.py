"""The page of a fleet report: whole, readable without sight, without a mouse and without a net; small however much it tells."""

import os
import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from fleet_reports import ARTIFACTS, START, made_up_fleet, result_of, setup_of
from markup_pages import Page, check_accessible

from host.report.fleet.data import FleetData, Spread, artifact_names, cells
from host.report.fleet.page import fleet_page
from host.report.fleet.tradeoffs import front

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def data() -> FleetData:
    return made_up_fleet()


@pytest.fixture(scope="module")
def page(data: FleetData) -> str:
    return fleet_page(data)


def test_the_page_has_every_section_and_can_be_read_in_every_way(page: str) -> None:
    read = Page(page)
    anchors = [attributes["id"] for attributes in read.of("section")]
    assert anchors == [
        "summary", "failures", "distributions", "tradeoffs", "threads", "repeats", "layers", "sensors", "verdicts",
        "environment",
    ]  # fmt: skip
    check_accessible(read)


def test_nothing_is_loaded_and_the_only_script_is_a_convenience(page: str) -> None:
    read = Page(page)
    assert not {"link", "img", "iframe", "object", "embed", "base", "form"} & {tag for tag, _ in read.tags}
    assert not read.values("src")
    assert "://" not in page
    assert not re.search(r"url\(|@import|fetch|innerHTML", page)
    # Buttons are made by the script, so without it there is none that does nothing.
    assert not read.of("button")


def test_charts_tell_what_they_show_and_stay_within_their_frame(page: str) -> None:
    drawings = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(drawings) == 27
    for drawing in drawings:
        root = ElementTree.fromstring(drawing)
        width, height = (float(each) for each in root.get("viewBox", "").split()[2:])
        assert root.findtext("title")
        assert root.findtext("desc")
        for dot in root.iter("circle"):
            assert 0 <= float(dot.get("cx", "nan")) <= width
            assert 0 <= float(dot.get("cy", "nan")) <= height
        for line in root.iter("line"):
            assert all(0 <= float(line.get(each, "nan")) <= height for each in ("y1", "y2"))
        for bar in root.iter("rect"):
            assert 0 <= float(bar.get("x", "nan")) + float(bar.get("width", "nan")) <= width


def test_names_stay_names(data: FleetData) -> None:
    hostile = '<img src="x" onerror="alert(1)">&amp;\'"'
    result = data.results[0]
    setup = replace(result.setup, artifact_name=hostile, device=hostile, settings=hostile, artifact="f" * 64)
    verdict = replace(result.verdicts[0], hint=hostile, unit=hostile)
    assert data.sweep is not None
    failure = replace(data.sweep.failures[0], artifact_name=hostile, device=hostile, error=hostile)
    before = Page(fleet_page(data))
    after = Page(
        fleet_page(
            replace(
                data,
                title=hostile,
                chosen=hostile,
                command=hostile,
                results=(replace(result, setup=setup, verdicts=(verdict,)), *data.results),
                spreads=(replace(data.spreads[0], setup=setup), *data.spreads),
                layers=(replace(data.layers[0], baseline=hostile, layers=((hostile, 1.0, 2.0),)),),
                courses=(replace(data.courses[0], device=hostile, artifact_name=hostile),),
                sweep=replace(data.sweep, name=hostile, failures=(failure,)),
            )
        )
    )
    assert {tag for tag, _ in after.tags} <= {tag for tag, _ in before.tags}
    assert hostile in after.text
    assert not after.values("onerror")


def test_figures_are_those_of_the_results(data: FleetData, page: str) -> None:
    text = Page(page).text
    assert "114 of 117 jobs are done, 3 failed or were skipped, 0 are still to come." in text
    cell = next(each for each in cells(data) if each.setup.device == "pi4-1" and each.setup.threads == 4)
    assert f"{cell.p50_ns / 1e6:.1f} ms" in text
    assert "the worker ran out of memory" in text
    assert "The board came within five degrees of where it throttles" in text


def test_what_is_not_known_is_a_dash_and_a_word(data: FleetData) -> None:
    bare = replace(
        data,
        results=tuple(replace(each, peak_memory_bytes=None, energy_j=None, verdicts=()) for each in data.results),
        artifacts={}, spreads=(), courses=(), layers=(), changes=(), devices=(), sweep=None,
    )  # fmt: skip
    text = Page(fleet_page(bare)).text
    assert "No energy is known" in text
    assert "No accuracy is known" in text
    assert "–" in text
    assert not re.search(r"\bNone\b|\bnan\b", text)


def test_no_results_are_no_error(data: FleetData) -> None:
    empty = FleetData(
        title="x", made_at=START, boardfit="0", command="host report", chosen="Nothing.", results=(), sweep=data.sweep
    )
    read = Page(fleet_page(empty))
    assert "There are no results yet." in read.text
    check_accessible(read)


def test_two_artifacts_of_one_name_and_two_environments_are_told_apart() -> None:
    setups = [setup_of(0, "pi4-1"), replace(setup_of(0, "pi4-1"), artifact="a" * 64)]
    setups.append(replace(setups[0], environment="other", settings="kernel 6.6"))
    results = tuple(result_of(number, setup, 30.0 + number) for number, setup in enumerate(setups))
    data = FleetData(title="x", made_at=START, boardfit="0", command="c", chosen="", results=results)
    assert len(cells(data)) == 3
    assert sorted(artifact_names(data).values()) == [f"{ARTIFACTS[0][0]} (000000)", f"{ARTIFACTS[0][0]} (aaaaaa)"]


def test_results_of_one_setup_are_put_together_by_medians() -> None:
    setup = setup_of(0, "pi4-1")
    results = tuple(
        result_of(number, setup, p50, at=START + timedelta(hours=number))
        for number, p50 in enumerate((31.0, 30.0, 38.0))
    )
    (cell,) = cells(FleetData(title="x", made_at=START, boardfit="0", command="c", chosen="", results=results))
    assert cell.p50_ns == 31.0e6
    assert cell.range_ns == (30.0e6, 38.0e6)


def test_the_front_keeps_what_nothing_beats() -> None:
    points = [(1.0, 0.5), (2.0, 0.9), (3.0, 0.9), (2.5, 0.7), (1.0, 0.4)]
    assert front(points, rises=True) == [0, 1]
    assert front(points, rises=False) == [4]


def test_thousands_of_results_stay_a_readable_file(data: FleetData) -> None:
    devices = [f"pi4-{number}" for number in range(200)]
    setups = [setup_of(artifact, device) for device in devices for artifact in range(4)]
    results = tuple(result_of(number, setup, 20.0 + number % 7) for number, setup in enumerate(setups * 6))
    spread = data.spreads[0]
    spreads = tuple(
        Spread(setup=each, measurement_id=1, latencies_ns=spread.latencies_ns, disturbed=spread.disturbed)
        for each in setups[:200]
    )
    page = fleet_page(replace(data, results=results, spreads=spreads))
    assert len(results) == 4800
    assert len(page.encode()) < 5_000_000
    assert "400 of 800 rows" in Page(page).text
    check_accessible(Page(page))


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_a_browser_draws_it_without_an_error_and_prints_it(page: str, tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    # The page is on a phone as wide as the phone: nothing but a table in its own frame scrolls sideways.
    measured = "document.querySelectorAll('th button').length+' '+document.documentElement.scrollWidth"
    probe = f"<script>document.title={measured}</script>"
    file.write_text(page.replace("</body>", f"{probe}</body>"))
    assert CHROMIUM is not None
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    environment = {**os.environ, "HOME": str(tmp_path)}
    command = [CHROMIUM, *options, "--window-size=500,900", "--dump-dom", file.as_uri()]
    made = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=True)
    title = re.search(r"<title>(\d+) (\d+)</title>", made.stdout)
    assert title is not None, made.stderr
    assert int(title[1]) > 9
    assert int(title[2]) <= 500
    printed = tmp_path / "page.pdf"
    command = [CHROMIUM, *options, f"--print-to-pdf={printed}", file.as_uri()]
    subprocess.run(command, capture_output=True, timeout=120, env=environment, check=True)
    assert printed.read_bytes().startswith(b"%PDF")


def test_repeats_that_lie_far_apart_stay_in_their_chart() -> None:
    latencies = ((1, 30.0), (1, 31.0), (1, 200.0), (2, 16.0))
    results = tuple(
        result_of(number, setup_of(0, "pi4-1", threads), p50) for number, (threads, p50) in enumerate(latencies)
    )
    page = fleet_page(FleetData(title="x", made_at=START, boardfit="0", command="c", chosen="", results=results))
    drawing = next(each for each in re.findall(r"<svg.*?</svg>", page, re.DOTALL) if "by threads" in each)
    whiskers = [each for each in ElementTree.fromstring(drawing).iter("line") if each.get("class") == "whisker"]
    assert len(whiskers) == 1
    assert all(0 <= float(whiskers[0].get(each, "nan")) <= 290 for each in ("y1", "y2"))
