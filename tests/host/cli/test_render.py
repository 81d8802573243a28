"""Rounding and units."""

from __future__ import annotations

import pytest

from host.cli import render


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (9.494, "9.49"),
        (9.996, "10.0"),
        (31.25, "31.2"),
        (163.4, "163"),
        (1634.4, "1634"),
        (0.0123456, "0.0123"),
        (0, "0"),
    ],
)
def test_three_digits(value: float, text: str) -> None:
    assert render.three_digits(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (12.0, "12.0 ns"),
        (15_400.0, "15.4 µs"),
        (9_490_000, "9.49 ms"),
        (2_500_000_000, "2.50 s"),
        (0, "0 ns"),
    ],
)
def test_latencies(value: float | None, text: str) -> None:
    assert render.latency_text(value) == text


def test_a_row_keeps_one_unit() -> None:
    assert render.latency_text(4_002_000, like_ns=107_000) == "4002 µs"
    assert render.latency_text(950_000, like_ns=9_490_000) == "0.950 ms"


def test_other_quantities() -> None:
    assert render.bytes_text(3_510_000) == "3.51 MB"
    assert render.bytes_text(999) == "999 B"
    assert render.bytes_text(None) == "–"
    assert render.count_text(163_000_000) == "163 M"
    assert render.count_text(64) == "64"
    assert render.percent_text(0.9342) == "93.4 %"
    assert render.ratio_text(0.4984) == "0.498x"
    assert render.energy_text(0.0481) == "48.1 mJ"
    assert render.energy_interval_text(0.0481, 0.00069) == "48.10 ± 0.69 mJ"
    assert render.energy_interval_text(0.00043, 0.0019) == "0.4 ± 1.9 mJ"
    assert render.energy_interval_text(1234.5, 12.3) == "1234 ± 12 J"
    assert render.energy_interval_text(2.5e-5, 0.0) == "25.0 ± 0 µJ"
    assert render.frequency_text(1_800_000_000) == "1.80 GHz"
    assert render.seconds_text(200) == "3 min 20 s"
    assert render.seconds_text(59.7) == "60 s"


def test_json_has_no_nan() -> None:
    with pytest.raises(ValueError):
        render.json_text({"x": float("nan")})
    assert render.json_text({"x": "µ"}) == '{\n  "x": "µ"\n}'


def test_square_brackets_are_text(capsys: pytest.CaptureFixture[str]) -> None:
    table = render.table("what")
    render.add_row(table, "pip install 'boardfit[litert]'")
    render.console().print(table)
    assert "boardfit[litert]" in capsys.readouterr().out
