"""The page of a fleet report, from its data alone: one file, nothing is loaded from anywhere, and nothing needs a script."""

from __future__ import annotations

from host.report.document import document
from host.report.fleet import courses, layers, scaling, spreads, summary, timeline, tradeoffs, verdicts
from host.report.fleet.data import FleetData
from host.report.markup import el
from host.report.tables import SORTING, section

#: Sections by anchor and name in the contents; one that the data has nothing for is left out.
_SECTIONS = (
    ("summary", "Summary", summary.table),
    ("failures", "Jobs without a result", verdicts.failures),
    ("distributions", "Distributions", spreads.distributions),
    ("tradeoffs", "Trade-offs", tradeoffs.tradeoffs),
    ("threads", "Threads", scaling.threads),
    ("repeats", "Over time", timeline.repeats),
    ("layers", "Layers", layers.layers),
    ("sensors", "Sensors", courses.courses),
    ("verdicts", "Verdicts", verdicts.verdicts),
    ("environment", "Environment", verdicts.environment),
)


def fleet_page(data: FleetData) -> str:
    """Return a self-contained HTML page. Without results it says so, and what was asked for."""
    made = [(anchor, name, build(data)) for anchor, name, build in _SECTIONS]
    contents = [(anchor, name) for anchor, name, content in made if content is not None]
    empty = section("summary", "Summary", el("p", "There are no results yet.")) if not data.results else None
    return document(
        f"{data.title}: fleet report",
        el("a", "Skip to the results", href="#main", class_="skip"),
        summary.head(data),
        el(
            "nav",
            el("ul", *(el("li", el("a", name, href=f"#{anchor}")) for anchor, name in contents)),
            aria_label="Contents",
        ),
        el("main", empty, *(content for _, _, content in made), id="main"),
        el("footer", f"Made by Boardfit {data.boardfit}; to make it again: {data.command}"),
        script=SORTING,
        kind="fleet",
    )
