"""The page of a record: whole, valid, without anything from outside, and safe with whatever names people choose."""

import copy
import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
from markup_pages import Page

from host.report.page import report_page
from host.report.style import STYLE

FIXTURE = Path(__file__).parents[2] / "fixtures/records/compress.json"
#: What records of the first version lack.
NEW = (
    "created_at", "host", "budgets", "granularity", "layers", "groups", "losses_round", "probes", "candidates", "search",
    "front", "training", "times", "measurements",
)  # fmt: skip


@pytest.fixture
def record() -> dict[str, Any]:
    document: dict[str, Any] = json.loads(FIXTURE.read_text())
    return document


def test_the_page_has_every_section_and_its_contents_lead_there(record: dict[str, Any]) -> None:
    page = Page(report_page(record))
    anchors = [attributes["id"] for tag, attributes in page.tags if tag == "section"]
    assert anchors == [
        "figures", "layers", "why", "search", "front", "model", "granularity", "precision", "training", "time",
        "environment", "files",
    ]  # fmt: skip
    assert [href[1:] for href in page.values("href") if href.startswith("#")] == anchors
    ids = page.values("id")
    assert len(set(ids)) == len(ids)
    assert page.headings[0] == 1
    assert page.headings.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(page.headings, page.headings[1:], strict=False))


def test_the_figures_are_the_records(record: dict[str, Any]) -> None:
    record["result"]["accuracy"] = 0.9155
    record["result"]["latency_ns"]["p50"] = 493_461.0
    record["result"]["latency_ratio"], record["result"]["latency_ratio_interval"] = 0.4976, [0.4951, 0.4993]
    text = Page(report_page(record)).text
    for figure in ("91.55 %", "493 µs", "0.498x (0.495 - 0.499)", "Target met."):
        assert figure in text
    record.update(met=False, reason="latency is 1.100 of the target")
    assert (
        "Target not met. Asked for 0.600x of the baseline's latency. Latency is 1.100 of the target."
        in Page(report_page(record)).text
    )


def test_charts_tell_what_they_show(record: dict[str, Any]) -> None:
    page = report_page(record)
    found = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(found) == 9
    for drawing in found:
        root = ElementTree.fromstring(drawing)
        assert root.get("role") == "img"
        title, description = root.find("title"), root.find("desc")
        assert title is not None
        assert description is not None
        assert title.text
        assert description.text
        assert root.get("aria-labelledby") == f"{title.get('id')} {description.get('id')}"
        for dot in root.iter("circle"):
            assert 0 <= float(dot.get("cx", "nan")) <= 420
            assert 0 <= float(dot.get("cy", "nan")) <= 290


def test_nothing_is_loaded_from_anywhere(record: dict[str, Any]) -> None:
    text = report_page(record)
    page = Page(text)
    assert not {"script", "link", "img", "iframe", "object", "embed", "base", "form"} & {tag for tag, _ in page.tags}
    assert not page.values("src")
    assert all(href.startswith("#") or re.fullmatch(r"[\w.-]+", href) for href in page.values("href"))
    assert "://" not in text
    assert not re.search(r"url\(|@import", text)


def test_names_stay_names(record: dict[str, Any]) -> None:
    hostile = '<img src="x" onerror="alert(1)">&amp;\'"'
    before = Page(report_page(record))
    first = next(iter(record["plan"]))
    record["model"] = record["data"] = record["device"]["name"] = record["device"]["board"] = hostile
    record["reason"] = hostile
    record["left_alone"] = [{"layer": hostile, "reason": hostile}]
    record["artifacts"]["onnx"] = f"folder/{hostile.replace('/', '')}"
    for each in (*record["groups"], *record["layers"], *record["probes"], *record["candidates"], *record["training"]):
        each["name" if "name" in each else "round"] = hostile
    record["plan"][hostile] = record["plan"].pop(first)
    after = Page(report_page(record))
    assert {tag for tag, _ in after.tags} == {tag for tag, _ in before.tags}
    assert hostile in after.text
    assert not after.values("onerror")


def test_a_record_of_the_first_version_gives_a_shorter_page(record: dict[str, Any]) -> None:
    old = {key: value for key, value in record.items() if key not in NEW}
    page = Page(report_page(old))
    anchors = [attributes["id"] for tag, attributes in page.tags if tag == "section"]
    assert anchors == ["figures", "layers", "why", "precision", "time", "environment", "files"]
    assert "not why" in page.text


def test_what_could_not_be_had_is_a_dash_and_no_error(record: dict[str, Any]) -> None:
    bare = copy.deepcopy(record)
    for side in ("baseline", "result"):
        bare[side]["peak_memory_bytes"] = None
    bare["result"]["latency_ratio_interval"] = None
    bare["latency_model_error"] = None
    bare["device"]["profile"] = bare["device"]["governor"] = None
    for layer in bare["layers"]:
        for side in ("baseline", "result"):
            layer[side]["share"] = layer[side]["modelled_share"] = None
    for group in bare["groups"]:
        group["losses"] = group["latency_ratios"] = None
    for probe in bare["probes"]:
        probe["measured_interval"] = None
    page = Page(report_page(bare))
    assert "–" in page.text
    assert "None" not in page.text
    assert "nan" not in page.text.lower().split()


def test_a_dry_run_has_no_report(record: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no result"):
        report_page({**record, "result": None})


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_on_every_background(scheme: str) -> None:
    blocks = re.findall(r":root\{(color-scheme:light dark;)?(--.*?)\}", STYLE, re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+):(#[0-9a-f]+)", blocks[scheme == "dark"][1]))

    def luminance(colour: str) -> float:
        digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
        parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    def contrast(one: str, other: str) -> float:
        high, low = sorted((luminance(colours[one]), luminance(colours[other])), reverse=True)
        return (high + 0.05) / (low + 0.05)

    for text in ("ink", "muted", "accent"):
        for background in ("bg", "surface"):
            assert contrast(text, background) >= 4.5, (text, background)
    for text in ("good", "bad"):
        assert contrast(text, f"{text}-bg") >= 4.5
        assert contrast("ink", f"{text}-bg") >= 4.5
    for mark in ("accent", "second", "third", "base"):  # WCAG 2.1, 1.4.11: graphics
        assert contrast(mark, "bg") >= 3
