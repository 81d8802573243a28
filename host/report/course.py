"""The course of the run: fine-tuning curves, and where the time went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from host.cli import render
from host.report.charts import Axis, Point, Rule, Series, chart, legend
from host.report.markup import Markup, el
from host.report.tables import figure, folded, section, table


def training(record: Mapping[str, Any]) -> Markup | None:
    """Return the curves of all fine-tunings, one after the other; None where there were none."""
    rounds: Sequence[Mapping[str, Any]] = record.get("training") or ()
    if not rounds:
        return None
    marks: list[Rule] = []
    rows: list[tuple[str, ...]] = []
    marked: list[int] = []
    curves: dict[str, list[list[Point]]] = {
        key: [] for key in ("train_accuracy", "validation_accuracy", "train_loss", "validation_loss")
    }
    at = 0
    for each in rounds:
        marks.append(Rule(at=at + 0.5, name=each["name"].partition(" of ")[0], vertical=True))
        for key, parts in curves.items():
            factor = 100 if key.endswith("accuracy") else 1
            parts.append(
                [
                    Point(
                        x=at + epoch["epoch"],
                        y=epoch[key] * factor,
                        ring=key == "validation_accuracy" and epoch["epoch"] == each["best_epoch"],
                        title=f"{each['name']}, epoch {epoch['epoch']}: {epoch[key] * factor:.4g}",
                    )
                    for epoch in each["epochs"]
                    if epoch[key] is not None
                ]
            )
        marked.append(len(rows) + each["best_epoch"] - 1)
        rows += [
            (
                each["name"],
                str(epoch["epoch"]),
                _loss(epoch["train_loss"]),
                _loss(epoch["validation_loss"]),
                render.percent_text(epoch["train_accuracy"]),
                render.percent_text(epoch["validation_accuracy"]),
                render.number_text(epoch["learning_rate"]),
                render.seconds_text(epoch["seconds"]),
            )
            for epoch in each["epochs"]
        ]
        at += len(each["epochs"])
    columns = (
        "fine-tuning", "epoch", "training loss", "validation loss", "training accuracy", "validation accuracy",
        "learning rate", "time",
    )  # fmt: skip
    key = legend([("accent", "validation"), ("base", "training")])
    return section(
        "training",
        "Fine-tuning",
        el(
            "p",
            f"{at} epoch{'s' if at > 1 else ''} in {len(rounds)} part{'s' if len(rounds) > 1 else ''}, with the original as the "
            "teacher. The weights of the epoch with the best validation accuracy, ringed, were kept of each part. The training "
            "loss includes the distance to the teacher.",
        ),
        el(
            "div",
            figure("Accuracy", _curves(curves, "accuracy", "accuracy, %", at, marks), key),
            figure("Loss", _curves(curves, "loss", "loss", at, marks), key),
            class_="charts",
        ),
        folded("The epochs as a table", table(columns, rows, right=columns[1:], marked=marked)),
    )


def _curves(
    curves: Mapping[str, Sequence[Sequence[Point]]], what: str, label: str, last: int, marks: Sequence[Rule]
) -> Markup:
    series = [
        Series(name=side, style=style, points=tuple(part), line=True, dots=side == "validation" or last <= 30)
        for side, style in (("train", "base"), ("validation", "accent"))
        for part in curves[f"{side}_{what}"]
    ]
    values = [point.y for each in series for point in each.points] or [0.0, 1.0]
    room = (max(values) - min(values)) * 0.08
    high = max(values) + room
    return chart(
        series,
        title=f"Fine-tuning, {what} by epoch",
        description=f"Training and validation {what} over {last} epochs; the table below has the figures.",
        x=Axis(label="epoch", low=0.5, high=last + 0.5, exact=True, step=max(1, round(last / 8))),
        y=Axis(label=label, low=max(min(values) - room, 0), high=min(high, 100) if what == "accuracy" else high),
        rules=marks,
    )


def _loss(value: float) -> str:
    return render.number_text(value)


def times(record: Mapping[str, Any]) -> Markup:
    """Return how long the device was held, how long the run took, and for what."""
    found = record.get("times")
    held = render.seconds_text(record["device_seconds"])
    if not found:
        return section("time", "Time", el("p", f"All measurements together held the device for {held}."))
    total, trained = found["seconds"], found["training_seconds"]
    rest = max(total - trained - record["device_seconds"], 0.0)
    parts = [
        ("s-device", "second", "device held", record["device_seconds"]),
        ("s-train", "accent", "training", trained),
        ("", "base", "planning, calibration, files", rest),
    ]
    strip = el(
        "div",
        *(
            el("span", class_=style, style=f"width:{100 * seconds / max(total, 1e-9):.2f}%")
            for style, _, _, seconds in parts
        ),
        class_="time",
        aria_hidden="true",
    )
    entries = [
        (
            f"{key} square",
            f"{name}: {render.seconds_text(seconds)} ({render.percent_text(seconds / max(total, 1e-9), 0)})",
        )
        for _, key, name, seconds in parts
    ]
    columns = ("stage", "time", "share")
    rows = [
        (each["name"], render.seconds_text(each["seconds"]), render.percent_text(each["seconds"] / max(total, 1e-9)))
        for each in found["stages"]
    ]
    return section(
        "time",
        "Time",
        el(
            "p",
            f"The run took {render.seconds_text(total)}; its measurements held the device for {held} of that. What a resumed run "
            "had already done is counted once.",
        ),
        strip,
        legend(entries),
        folded("The stages as a table", table(columns, rows, right=columns[1:])),
    )
