"""The judges of the kill trial see what they are to see. The trial itself, in small, is in test_quick."""

from __future__ import annotations

from pathlib import Path

from benchmarks.exclusive_use import Span, intrusions, lease_spans, overlaps, worker_spans


def test_the_records_are_read_as_they_are_written(tmp_path: Path) -> None:
    stamps = "1.0.0 7-1 100\n2.0.0 8-150 150\n1.0.0 7-1 200\n2.0.0 8-150 250\n"
    (tmp_path / "workers.log").write_text(stamps)
    first, second = worker_spans(tmp_path)
    assert (first, second) == (Span("1.0.0", 100, 200), Span("2.0.0", 150, 250))
    assert overlaps([second, first]) == [(first, second)]
    notes = "lease 1.0.0 50 90\ndone 1.0.0 90 120\ndone 1.0.0 90 180\nerror DeviceBusy\n"
    (tmp_path / "hosts.log").write_text(notes)
    [lease] = lease_spans(tmp_path)
    assert lease == Span("1.0.0", 90, 180)
    assert intrusions([lease], [first, second]) == [(lease, second)]


def test_uses_one_after_the_other_are_fine() -> None:
    spans = [Span("a", 0, 10), Span("b", 10, 20), Span("a", 20, 30)]
    assert overlaps(spans) == []
    assert overlaps([Span("a", 0, 100), Span("b", 10, 20), Span("c", 30, 40)]) != []
