"""A reader of pages: tags that don't match are errors, and what tests ask about is collected."""

from __future__ import annotations

import re
from html.parser import HTMLParser

VOID = {"meta", "br", "hr", "wbr", "input"}


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.headings: list[int] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"an attribute twice in {tag}"
        self.tags.append((tag, dict(attrs)))
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.text += data

    def values(self, name: str) -> list[str]:
        return [attributes[name] or "" for _, attributes in self.tags if name in attributes]

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def check_accessible(page: Page) -> None:
    """One main heading and none skipped, unique ids, references that lead somewhere, scopes, names of charts and of fields."""
    assert page.headings.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(page.headings, page.headings[1:], strict=False))
    ids = page.values("id")
    assert len(set(ids)) == len(ids)
    assert {href[1:] for href in page.values("href") if href.startswith("#")} <= set(ids)
    assert all(reference in ids for each in page.values("aria-labelledby") for reference in each.split())
    assert all(each.get("scope") in ("row", "col") for each in page.of("th"))
    assert all(each.get("role") == "img" and each.get("aria-labelledby") for each in page.of("svg"))
    assert page.of("html")[0]["lang"] == "en"
    assert len(page.of("main")) == 1
    # What scrolls can be reached by keyboard.
    assert all(each.get("tabindex") == "0" for each in page.of("div") if each.get("class") == "scroll")
