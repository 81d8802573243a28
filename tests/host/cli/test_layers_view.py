"""The table of layers: what stands together, and that it fits."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from host.cli.layers_view import MOST_ROWS, print_layers, rows_of


def node(layer: str | None, op_type: str, median_ns: float, *sources: str, share: float = 0.1) -> dict[str, Any]:
    return {
        "layer": layer,
        "name": f"{op_type}_token_7",
        "op_type": op_type,
        "median_ns": median_ns,
        "share": share,
        "runs": 50,
        "input_shapes": [[1, 96, 112, 112], [96, 1, 3, 3]],
        "output_shapes": [[1, 96, 56, 56]],
        "sources": list(sources),
    }


def document(layers: list[dict[str, Any]]) -> dict[str, Any]:
    total = sum(layer["median_ns"] for layer in layers)
    return {
        "layers": layers,
        "layers_total": {"sum_ns": total, "plain_ns": 2 * total, "ratio": 0.5},
        "layers_unavailable": None,
    }


def shown(of: dict[str, Any], width: int, title: str | None = None) -> list[str]:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    print_layers(console, of, title)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def test_nodes_of_one_layer_are_summed_and_the_costliest_gives_the_shapes() -> None:
    small, large = node("blocks.3", "Add", 2e3, "/Add"), node("blocks.3", "Conv", 5e4, "/Conv", share=0.4)
    small["output_shapes"] = [[1, 1]]
    (row,) = rows_of([small, large, node("blocks.3", "Add", 1e3, "/Add_1", share=0.2)])
    assert (row.name, row.kind, row.time_ns) == ("blocks.3", "Conv, 2 Add", 5.3e4)
    assert row.share == pytest.approx(0.7)
    assert (row.input_shape, row.output_shape) == ((1, 96, 112, 112), (1, 96, 56, 56))


def test_without_a_layer_a_node_goes_by_its_sources_and_what_was_added_by_its_kind() -> None:
    rows = rows_of(
        [
            node(None, "Conv", 9e4, "Conv@1", "Relu@2", share=0.5),
            node(None, "ReorderOutput", 4e3, share=0.2),
            node(None, "ReorderOutput", 3e3, share=0.1),
            node(None, "ReorderInput", 1e3, share=0.05),
        ]
    )
    assert [(row.name, row.kind) for row in rows] == [
        ("Conv@1 + Relu@2", "Conv"),
        (None, "2 ReorderOutput"),
        (None, "ReorderInput"),
    ]


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_the_table_fits_and_keeps_what_tells_layers_apart(width: int) -> None:
    layers = [
        node(
            f"model.encoder.stages.{place}.blocks.11.attention.projection.conv_{place}",
            "Fully Connected",
            1e6 / (place + 1),
            "x",
        )
        for place in range(40)
    ]
    layers.append(node(None, "ReorderOutput", 3.0))
    layers.append(node("a", "Batch Matrix Multiply", 4e6, "a", share=0.9))
    layers.append(node("a", "Multiply", 4e3, "b"))
    lines = shown(document(layers), width)
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    assert "projection.conv_7 " in text
    assert f"{41 + 1 - MOST_ROWS} others" in text
    assert "1x96x56x56" in text
    assert ("1x96x112x112" in text) == (width >= 110)
    rows = [line for line in lines if "conv_" in line]
    assert len(rows) == MOST_ROWS - 1, "one line each"
    assert all("%" in row for row in rows)


def test_the_sum_is_held_against_the_plain_runs() -> None:
    text = " ".join(shown(document([node("a", "Conv", 4e6, "a")]), 80))
    assert "1 node of profiled runs add up to 4.00 ms, 50 % of the plain runs beside them (8.00 ms)." in text


def test_shapes_that_are_not_known_are_dashes() -> None:
    bare = {**node("a", "Conv", 4e6, "a"), "input_shapes": [], "output_shapes": []}
    assert any("–" in line for line in shown(document([bare]), 80))
    scalar = {**node("a", "Conv", 4e6, "a"), "output_shapes": [[]]}
    assert any("scalar" in line for line in shown(document([scalar]), 80))


def test_why_there_are_none() -> None:
    of = {"layers": None, "layers_total": None, "layers_unavailable": "tflite-runtime has no profiler"}
    assert shown(of, 80) == ["No times of single layers: tflite-runtime has no profiler."]
    assert shown(of, 80, "a.tflite") == ["No times of single layers of a.tflite: tflite-runtime has no profiler."]
    assert shown({}, 80) == []
