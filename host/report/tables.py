"""Pieces that several sections share: tables, bars, definition lists."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from host.report.markup import Markup, el, join


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: Sequence[str] = (),
    whole: Sequence[str] = (),
    marked: Iterable[int] = (),
) -> Markup:
    """Return a table whose first column names its rows; columns in `right` hold figures, those in `whole` words that must not be
    broken, rows in `marked` stand out."""
    chosen = set(marked)

    def cell(index: int, text: str) -> Markup:
        style = _style(columns[index], right, whole)
        return el("td", text, class_=style) if index else el("th", text, scope="row", class_=style)

    head = el("tr", *(el("th", each, scope="col", class_="n" if each in right else None) for each in columns))
    body = [
        el("tr", *(cell(index, text) for index, text in enumerate(row)), class_="taken" if place in chosen else None)
        for place, row in enumerate(rows)
    ]
    return _scrolled(el("table", el("thead", head), el("tbody", *body)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A cell of a table that can be sorted: what it shows, and the number it goes by, None for its text."""

    shown: str
    value: float | None = None
    #: Of a cell that shows nothing: it goes last.
    absent: bool = False


def sortable(
    columns: Sequence[str], rows: Iterable[Sequence[Cell]], *, right: Sequence[str] = (), whole: Sequence[str] = ()
) -> Markup:
    """Return a table like `table`, whose columns the reader may sort where the script SORTING runs."""

    def cell(index: int, each: Cell) -> Markup:
        style = _style(columns[index], right, whole)
        data = "" if each.absent else None if each.value is None else f"{each.value:.9g}"
        if index:
            return el("td", each.shown, class_=style, data_v=data)
        return el("th", each.shown, scope="row", class_=style, data_v=data)

    head = el("tr", *(el("th", each, scope="col", class_="n" if each in right else None) for each in columns))
    body = [el("tr", *(cell(index, each) for index, each in enumerate(row))) for row in rows]
    made = el("table", el("thead", head), el("tbody", *body), class_="sortable")
    return _scrolled(made)


#: Puts a button into every heading of `sortable` tables. Absent values stay at the end in both directions.
SORTING = Markup(
    """
for(const table of document.querySelectorAll("table.sortable")){
const heads=[...table.tHead.rows[0].cells],body=table.tBodies[0];
heads.forEach((head,column)=>{
const button=document.createElement("button");button.type="button";button.append(...head.childNodes);head.append(button);
button.addEventListener("click",()=>{
const up=head.getAttribute("aria-sort")!=="ascending";
heads.forEach(other=>other.removeAttribute("aria-sort"));head.setAttribute("aria-sort",up?"ascending":"descending");
const key=row=>{const cell=row.cells[column],v=cell.dataset.v;return v===undefined?cell.textContent:v===""?null:Number(v)};
const rows=[...body.rows].map(row=>[key(row),row]);
rows.sort(([a],[b])=>{if(a===null||b===null)return(a===null)-(b===null);
const order=typeof a==="number"&&typeof b==="number"?a-b:String(a).localeCompare(String(b),undefined,{numeric:true});
return up?order:-order});
body.append(...rows.map(([,row])=>row))})})}
"""
)


def _scrolled(made: Markup) -> Markup:
    # What scrolls has to be reached by keyboard, and what can be reached needs a name.
    return el(
        "div", made, class_="scroll", tabindex="0", role="region", aria_label="Table, may be wider than the screen"
    )


def _style(column: str, right: Sequence[str], whole: Sequence[str]) -> str | None:
    return "n" if column in right else "w" if column in whole else None


def folded(summary: str, content: Markup) -> Markup:
    """Return content that opens on demand."""
    return el("details", el("summary", summary), content)


def bars(before: float, after: float, largest: float) -> Markup:
    """Return two bars, baseline over result, as shares of `largest`; figures stand beside them for screen readers."""
    parts = [el("i", style=f"width:{_share(each, largest):.2f}%") for each in (before, after)]
    return el("span", *parts, class_="bars", aria_hidden="true")


def kept_bar(share: float) -> Markup:
    """Return a bar of which `share` is kept."""
    return el("span", el("i", style=f"width:{_share(share, 1.0):.2f}%"), class_="kept", aria_hidden="true")


def breakable(name: str) -> Markup:
    """Return a dotted name that a narrow column may break after its dots."""
    parts = name.split(".")
    last = len(parts) - 1
    pieces = [
        join([part + ("." if place < last else ""), el("wbr") if place < last else None])
        for place, part in enumerate(parts)
    ]
    return el("span", *pieces, class_="mono")


def _share(value: float, largest: float) -> float:
    return 0.0 if largest <= 0 else 100 * min(max(value / largest, 0.0), 1.0)


def facts(rows: Iterable[tuple[str, str]]) -> Markup:
    """Return names and values."""
    return el("dl", *(join([el("dt", name), el("dd", value)]) for name, value in rows), class_="facts")


def section(anchor: str, title: str, *content: str | None) -> Markup:
    """Return a section with a heading that can be linked to."""
    return el("section", el("h2", title), *content, id=anchor)


def figure(caption: str, chart: Markup, legend: Markup | None = None) -> Markup:
    """Return a chart with what it shows."""
    return el("figure", el("figcaption", caption), chart, legend)


def tiles(rows: Sequence[tuple[str, str, str]]) -> Markup:
    """Return figures to be seen first: each with its name, the figure, and what stands behind it."""
    return el(
        "ul",
        *(
            el(
                "li",
                el("p", name, class_="name"),
                el("p", big, class_="big"),
                el("p", more, class_="from"),
                class_="tile",
            )
            for name, big, more in rows
        ),
        class_="tiles",
    )
