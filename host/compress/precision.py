"""Precision as part of the choice: int8 or float16 where the device measures it faster and the accuracy holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from device_agent.contract.decision import DecisionCode
from host.compress.nodes import ExportedModel
from host.compress.options import CompressOptions
from host.compress.precision_rule import Correct, accuracy_reason, final_reason, latency_reason
from host.compress.precision_trial import PrecisionTrial, entry_of, named
from host.compress.session import Session
from host.compress.variants import FLOAT16, FLOAT32, INT8_STATIC, Variant, artifact_name
from host.search.budgets import WINDOW


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What is taken: its precision, file and final measurement, and the document for the record.

    `artifact` is the record's name for the file, None for float32. `problem` says why what was asked for could not be had,
    `lost` why the accuracy of what was planned in does not hold.
    """

    precision: str
    file: ExportedModel
    comparison: Mapping[str, Any]
    document: Mapping[str, Any]
    artifact: str | None = None
    problem: str | None = None
    lost: str | None = None


def choose_precision(
    session: Session, module: nn.Module, exported: ExportedModel, comparison: Mapping[str, Any]
) -> Choice:
    """Try lower precisions of the trained `module`, exported as float32 and measured as `comparison` says; take one or none.

    What was planned in int8 becomes int8, in the calibration that the device answers best with; nothing else is tried then, and
    `comparison` needs the latency only.
    """
    planned = session.pricing.variant
    if planned is not None:
        session.observer.stage(f"making the {planned.precision} file")
        return _deliver(
            PrecisionTrial(session, module, exported, comparison, variants=(planned,)),
            session.options.max_accuracy_drop,
        )
    if session.options.precision == FLOAT32:
        document = {**_document(FLOAT32, [], None), "reason": "asked for by --precision float32"}
        return Choice(precision=FLOAT32, file=exported, comparison=comparison, document=document)
    session.observer.stage("trying lower precisions on the device, in turns with the float32 result")
    return choose(PrecisionTrial(session, module, exported, comparison), session.options)


def choose(trial: PrecisionTrial, options: CompressOptions) -> Choice:
    """Take the fastest variant that is faster than float32 and whose accuracy holds; under --precision int8 the fastest int8."""
    entries, known, forced = trial.entries(), trial.known(), options.precision == "int8"
    for index in _order(entries, forced=forced):
        entry, variant = entries[index], trial.most_accurate(trial.variants[index])
        entry["reason"] = accuracy_reason(_priced(trial, entry, variant, known), known, options.max_accuracy_drop)
        if entry["reason"] is not None and not forced:
            continue
        file, final = trial.final(variant)
        entry["reason"] = entry["reason"] or final_reason(
            {**final, "size_bytes": file.size_bytes},
            {**trial.comparison, "size_bytes": trial.exported.size_bytes},
            {"peak_memory_bytes": options.max_memory_bytes, "size_bytes": options.max_size_bytes},
        )
        if entry["reason"] is None or forced:
            entry["taken"] = True
            document = _document(variant.precision, _told(trial, entries), known)
            return Choice(
                precision=variant.precision,
                file=file,
                comparison=final,
                document={**document, "reason": "asked for by --precision int8" if forced else None},
                artifact=artifact_name(variant.precision, file.path),
            )
        file.path.unlink()
    _price_of_int8(trial, entries, known)
    tried, problem = _told(trial, entries), None
    if forced:
        problem = "int8 cannot be had here: " + "; ".join(f"{each['precision']}: {each['reason']}" for each in tried)
    return Choice(
        precision=FLOAT32,
        file=trial.exported,
        comparison=trial.comparison,
        document=_document(FLOAT32, tried, known),
        problem=problem,
    )


def _deliver(trial: PrecisionTrial, max_accuracy_drop: float | None) -> Choice:
    """Make the file that was planned for."""
    entry, known = trial.entries()[0], trial.known()
    variant = trial.most_accurate(trial.variants[0])
    lost = accuracy_reason(_priced(trial, entry, variant, known), known, max_accuracy_drop)
    file, final = trial.final(variant, WINDOW)
    entry.update(taken=True, reason=lost)
    asked = trial.session.options.precision == "int8"
    reason = "asked for by --precision int8" if asked else "the plan was made in it"
    return Choice(
        precision=variant.precision,
        file=file,
        comparison=final,
        document={**_document(variant.precision, [entry], known), "reason": reason},
        artifact=artifact_name(variant.precision, file.path),
        lost=lost,
    )


def _order(entries: Sequence[Mapping[str, Any]], *, forced: bool) -> list[int]:
    """The places of what may be taken, the fastest first: all that are faster than float32, or the fastest int8 alone."""
    ran = [index for index, entry in enumerate(entries) if entry["ratio_to_float"] is not None]
    ran.sort(key=lambda index: float(entries[index]["ratio_to_float"]))
    if forced:
        return ran[:1]
    return [index for index in ran if entries[index]["decision"] == DecisionCode.FASTER.value]


def _priced(trial: PrecisionTrial, entry: dict[str, Any], variant: Variant, known: Correct) -> int:
    """Fill in what is known of a variant after its accuracy; return how many images it classifies right."""
    found = trial.accuracy(variant)
    entry.update(named(variant), size_bytes=found["size_bytes"], host_agreement=found["host_agreement"])
    entry["validation_accuracy"] = found["correct"] / known.count
    return int(found["correct"])


def _price_of_int8(trial: PrecisionTrial, entries: Sequence[dict[str, Any]], known: Correct) -> None:
    """Find out what the fastest static int8 would have cost in accuracy, unless that is known."""
    static = [
        (float(entry["ratio_to_float"]), index)
        for index, entry in enumerate(entries)
        if entry["precision"] == INT8_STATIC and entry["ratio_to_float"] is not None
    ]
    if static and entries[min(static)[1]]["validation_accuracy"] is None:
        index = min(static)[1]
        _priced(trial, entries[index], trial.variants[index], known)


def _told(trial: PrecisionTrial, entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give every entry that is not taken its reason, and float16 that was not tried an entry."""
    taken = next((entry["precision"] for entry in entries if entry["taken"]), None)
    for entry in entries:
        if not entry["taken"] and entry["reason"] is None:
            entry["reason"] = latency_reason(entry["decision"]) or f"the {taken} file that is taken is faster"
    if trial.no_float16 is not None:
        return [*entries, {**entry_of(Variant(precision=FLOAT16)), "reason": trial.no_float16}]
    return list(entries)


def _document(chosen: str, tried: Sequence[Mapping[str, Any]], known: Correct | None) -> dict[str, Any]:
    return {
        "chosen": chosen,
        "reason": None,
        "float_validation_accuracy": None if known is None else known.float32 / known.count,
        "validation_images": None if known is None else known.count,
        "tried": list(tried),
    }
