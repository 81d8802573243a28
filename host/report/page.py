"""The page of one compression, from its record alone: one file, nothing is loaded from anywhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from host.report import course, front, headline, search, setting, widths
from host.report.document import document
from host.report.markup import el

#: Sections by anchor and name in the contents; one that a record has nothing for is left out.
_SECTIONS = (
    ("figures", "Before and after", headline.figures),
    ("layers", "Layers", widths.layers),
    ("why", "Why these widths", widths.reasons),
    ("search", "Search", search.path),
    ("front", "Front", front.front),
    ("model", "Latency model", search.model),
    ("granularity", "Fast widths", setting.granularity),
    ("resolution", "Resolution", setting.resolution),
    ("precision", "Precision", setting.precision),
    ("training", "Fine-tuning", course.training),
    ("time", "Time", course.times),
    ("environment", "Environment", setting.environment),
    ("files", "Files", setting.files),
)


def report_page(record: Mapping[str, Any]) -> str:
    """Return a self-contained HTML page for a record (docs/json-schema.md) of a run with a result.

    Records of earlier versions give a shorter page. ValueError for a dry run's, which has no result.
    """
    if record["result"] is None:
        raise ValueError("a dry run has no result to report")
    made = [(anchor, name, build(record)) for anchor, name, build in _SECTIONS]
    contents = [(anchor, name) for anchor, name, content in made if content is not None]
    return document(
        f"{record['model']} on {record['device']['name']}: compression report",
        headline.head(record),
        el(
            "nav",
            el("ul", *(el("li", el("a", name, href=f"#{anchor}")) for anchor, name in contents)),
            aria_label="Contents",
        ),
        el("main", *(content for _, _, content in made)),
        el(
            "footer",
            f"Made by Boardfit {(record.get('host') or {}).get('boardfit', '')} from record.json; to make it again: "
            "host report FOLDER",
        ),
    )
