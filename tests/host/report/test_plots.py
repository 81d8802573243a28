"""Charts as files of their own: valid SVG that needs no style sheet, and PNG that shows something."""

import io
import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from fleet_reports import made_up_fleet
from PIL import Image

from host.report.fleet.page import fleet_page
from host.report.plots import PngUnavailable, plots_of, png_of, write_plots


def test_every_chart_of_a_page_becomes_a_file(tmp_path: Path) -> None:
    page = fleet_page(made_up_fleet(("pi5-1",), repeats=3))
    plots = plots_of(page)
    assert len(plots) == page.count("<svg")
    assert len({plot.name for plot in plots}) == len(plots)
    written = write_plots(plots, tmp_path / "plots", png=False)
    assert [path.name for path in written] == [f"{plot.name}.svg" for plot in plots]
    for path in written:
        root = ElementTree.parse(path).getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        text = path.read_text()
        assert "var(" not in text  # programs that draw SVG don't know CSS variables
        assert not re.search(r"url\(|href", text)


def test_png_shows_lines_and_letters() -> None:
    pytest.importorskip("resvg_py")
    plot = plots_of(fleet_page(made_up_fleet(("pi5-1",), repeats=3)))[1]
    picture = Image.open(io.BytesIO(png_of(plot.svg))).convert("RGB")
    assert picture.width > 1000
    colours = picture.getcolors(1 << 20)
    assert colours is not None
    found = {colour for _, colour in colours}
    assert (255, 255, 255) in found
    assert (0x0A, 0x66, 0xC2) in found  # the accent: data
    caption = picture.crop((0, 0, picture.width, 90)).getcolors(1 << 20)
    assert caption is not None
    assert len(caption) > 5  # letters, smoothed: fonts were found


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resvg_py", None)
    with pytest.raises(PngUnavailable, match=r"boardfit\[png\]"):
        png_of("<svg/>")
