"""Each chart of a page as a file of its own: SVG with its caption, legend and colours inside, and PNG drawn from that."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from device_agent.contract.errors import StableError
from host.files import write_whole
from host.report.markup import Markup, el
from host.report.style import LIGHT

#: Pixels per unit of a chart: 1,260 pixels wide, sharp on paper at 10 cm.
ZOOM = 3.0
_MARGIN, _CAPTION, _LEGEND = 14.0, 26.0, 20.0
#: Fonts that the common systems have; the first that is there is taken.
_FONTS = 'system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,"Noto Sans","DejaVu Sans","Liberation Sans",sans-serif'
#: A character's mean width, in units of the font's size.
_CHARACTER = 0.58
_FIGURE = re.compile(r"<figure>(?P<content>.*?)</figure>", re.DOTALL)


class PngUnavailable(StableError):
    """The library that draws PNG files is not installed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """A chart as a whole SVG document. `name` is the file's without its ending."""

    name: str
    svg: str


def plots_of(page: str) -> tuple[Plot, ...]:
    """Return the charts of a page that this package made, in their order, in the light colours."""
    found: list[Plot] = []
    for figure in _FIGURE.finditer(page):
        root = ElementTree.fromstring(f"<figure>{_closed(figure['content'])}</figure>")
        chart = root.find(".//svg")
        if chart is not None:
            found.append(_plot(root, chart, len(found) + 1))
    return tuple(found)


def write_plots(plots: Sequence[Plot], folder: Path, *, png: bool) -> tuple[Path, ...]:
    """Write NAME.svg, and with `png` NAME.png, of each into `folder`, which is made. Raises PngUnavailable."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for plot in plots:
        path = folder / f"{plot.name}.svg"
        write_whole(path, plot.svg.encode())
        written.append(path)
        if png:
            path = folder / f"{plot.name}.png"
            write_whole(path, png_of(plot.svg))
            written.append(path)
    return tuple(written)


def png_of(svg: str) -> bytes:
    """Return an SVG drawn on white. Raises PngUnavailable."""
    try:
        import resvg_py
    except ImportError as error:
        raise PngUnavailable(
            "PNG files need resvg-py: pip install 'boardfit[png]', or leave PNG out with --no-png"
        ) from error
    # Of the families of the style sheet resvg takes the first that the system has, else this one.
    return bytes(resvg_py.svg_to_bytes(svg_string=svg, zoom=ZOOM, background="#ffffff", font_family="DejaVu Sans"))


def _closed(markup: str) -> str:
    return re.sub(r"<(wbr|br|hr)>", r"<\1/>", markup)


def _plot(figure: ElementTree.Element, chart: ElementTree.Element, number: int) -> Plot:
    title = chart.findtext("title") or figure.findtext("figcaption") or "chart"
    _, _, width, height = (float(each) for each in chart.attrib["viewBox"].split())
    keys = _keys(figure)
    rows = _wrapped(keys, width)
    lines = textwrap.wrap(title, int(width / (14 * _CHARACTER)), max_lines=2, placeholder="…") or [""]
    top = _CAPTION + 18 * (len(lines) - 1)
    total = top + height + _LEGEND * len(rows)
    drawn = [ElementTree.tostring(each, encoding="unicode") for each in chart if each.tag not in ("title", "desc")]
    keys_at = top + height + _LEGEND * 0.7
    made = el(
        "svg",
        el("title", title),
        el("desc", chart.findtext("desc") or ""),
        el("style", Markup(_STYLE)),
        el("rect", x=-_MARGIN, y=-_MARGIN, width=width + 2 * _MARGIN, height=total + 2 * _MARGIN, class_="paper"),
        *(el("text", line, x=0.0, y=15.0 + 18 * place, class_="caption") for place, line in enumerate(lines)),
        el("g", Markup("".join(drawn)), transform=f"translate(0 {top:g})", class_="chart"),
        *(_legend_row(row, keys_at + _LEGEND * place) for place, row in enumerate(rows)),
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"{-_MARGIN:g} {-_MARGIN:g} {width + 2 * _MARGIN:g} {total + 2 * _MARGIN:g}",
        width=width + 2 * _MARGIN,
        height=total + 2 * _MARGIN,
        role="img",
    )
    name = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:80]
    return Plot(name=f"{number:02}-{name}", svg=f"{made}\n")


def _keys(figure: ElementTree.Element) -> list[tuple[str, str]]:
    """Return the legend's entries: the classes of the mark, the text beside it."""
    found = []
    for entry in figure.iterfind(".//li"):
        mark = entry.find("span")
        if mark is not None:
            found.append((mark.attrib["class"], "".join(entry.itertext()).strip()))
    return found


def _wrapped(keys: Sequence[tuple[str, str]], width: float) -> list[list[tuple[float, str, str]]]:
    """Return the entries in rows, each with its place."""
    rows: list[list[tuple[float, str, str]]] = []
    at = width
    for style, text in keys:
        needed = 34 + len(text) * 12 * _CHARACTER
        if not rows or at + needed > width:
            rows.append([])
            at = 0.0
        rows[-1].append((at, style, text))
        at += needed
    return rows


def _legend_row(row: Sequence[tuple[float, str, str]], y: float) -> Markup:
    parts = []
    for x, style, text in row:
        if "stroke" in style.split():
            parts.append(el("line", x1=x + 5, x2=x + 5, y1=y - 10, y2=y + 2, class_=style))
        elif "square" in style.split():
            parts.append(el("rect", x=x, y=y - 9, width=10.0, height=10.0, rx=2.5, class_=style))
        else:
            parts.append(el("circle", cx=x + 5, cy=y - 4, r=4.5, class_=style))
        parts.append(el("text", text, x=x + 17, y=y))
    return el("g", *parts)


def _sheet() -> str:
    """Return the rules of the charts with their colours filled in: programs that draw SVG seldom know CSS variables."""
    rules = """
text{font-family:FONTS;font-size:12px;fill:var(--muted)}
.paper{fill:var(--bg)}.caption{font-size:14px;font-weight:600;fill:var(--ink)}
.label{font-size:12.5px}.note{fill:var(--ink);font-size:11.5px}
.start{text-anchor:start}.middle{text-anchor:middle}.end{text-anchor:end}
.grid{stroke:var(--line)}.axis{stroke:var(--base)}
.identity{stroke:var(--base);stroke-dasharray:2 4;stroke-width:1.5}
.rule{stroke:var(--ink);stroke-dasharray:5 4;opacity:.65}
.band{fill:var(--accent);opacity:.11}.area{fill:var(--accent)}.area.second{fill:var(--second)}
.bar{fill:var(--base)}.bar.accent{fill:var(--accent)}
.mark{stroke:var(--ink);stroke-width:1.8}.mark.far{stroke:var(--muted);stroke-width:1.2;stroke-dasharray:2 2}
.ring{fill:none}.line{fill:none;stroke-width:2;stroke-linejoin:round}.dashed{stroke-dasharray:5 4}
.whisker{stroke-width:1.5;opacity:.6}.dot{stroke:var(--bg);stroke-width:1}
.key{fill:var(--accent);stroke:none}
.key.stroke{stroke:var(--ink);stroke-width:2}.key.stroke.far{stroke:var(--muted);stroke-dasharray:2 2}
.key.hollow{fill:var(--bg);stroke:var(--accent);stroke-width:2}.key.hollow.second{fill:var(--bg);stroke:var(--second)}
"""
    for style in ("accent", "base", "second", "third"):
        rules += (
            f".series.{style} .dot{{fill:var(--{style})}}.series.{style} .line,.series.{style} .whisker,.series.{style} .ring"
            f"{{stroke:var(--{style})}}.series.{style}.hollow .dot{{fill:var(--bg);stroke:var(--{style});stroke-width:1.8}}"
            f".key.{style}{{fill:var(--{style})}}\n"
        )
    rules += ".key.hollow{fill:var(--bg)}\n"
    return re.sub(r"var\(--([\w-]+)\)", lambda found: LIGHT[found[1]], rules).replace("FONTS", _FONTS)


_STYLE = _sheet()
