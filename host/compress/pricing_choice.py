"""Which precision to plan in: int8 where the baseline is faster in it, its accuracy holds, and it leaves a larger network.

The last is no matter of course. int8 that takes 0.73 of the float32 time on the whole network takes 1.1 on one of half the
width (docs/precision.md): what counts is how large a network each precision leaves at the *target's* latency. So both are
learned, and the uniform plans that meet the target compared. Float32 stays unless int8 keeps more: it is never less exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from device_agent.contract.decision import DecisionCode
from host.compress.groups import ModelNotPrunable
from host.compress.nodes import describe
from host.compress.precision_rule import Correct, accuracy_reason, latency_reason
from host.compress.precision_trial import PrecisionTrial, named
from host.compress.pricing import Pricing, QuantizedFormat
from host.compress.quantization import QuantizationFailed, calibration_images
from host.compress.session import Session
from host.compress.variants import FILE_NAMES, FLOAT32, INT8_STATIC, Variant, static_variants
from host.search.solution import Infeasible
from host.search.uniform import uniform

#: MACs that int8 has to keep for each one of float32 at the same latency: it costs some tenths of a point of accuracy itself.
MORE_MACS = 1.1
#: Device time for the accuracy of the baseline in int8.
EVALUATION_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PricingChoice:
    """What to plan in, with the record's word on it (docs/json-schema.md, `pricing`)."""

    pricing: Pricing
    document: Mapping[str, Any]

    def given_up(self, session: Session, reason: str) -> PricingChoice:
        """Return the choice of float32, since what was planned in int8 and trained did not hold its accuracy; remove its file."""
        (session.out / FILE_NAMES[INT8_STATIC][1]).unlink(missing_ok=True)
        session.observer.note(f"planning again, in float32: {reason}")
        return _stay(session, self.document, reason)


def choose_pricing(session: Session, baseline_ns: float, target: float) -> PricingChoice:
    """Try the baseline in static int8 on the device; return what plans for `target`, a ratio to `baseline_ns`, are made in.

    The session is left pricing in it. Under `--precision int8` that is the fastest int8 that the device runs; under float32
    nothing is tried.
    """
    document: dict[str, Any] = {
        "precision": FLOAT32,
        "reason": None,
        "tried": [],
        "float_validation_accuracy": None,
        "validation_images": None,
        "macs_at_target": None,
    }
    if session.options.precision == FLOAT32:
        return _stay(session, document, "asked for by --precision float32")
    if session.format.name != "onnx":
        return _stay(session, document, f"int8 is not planned in {session.format.name} files")
    if session.view.size is not None:
        return _stay(session, document, "int8 is planned at the baseline's own resolution only")
    session.observer.stage("trying the baseline in int8, in turns with float32")
    static = static_variants(session.measuring.device.info, session.measuring.settings.provider)
    latency = {"latency_ns": {"p50": baseline_ns}}
    trial = PrecisionTrial(
        session, session.original, session.baseline, latency, variants=static, evaluation_s=EVALUATION_S
    )
    pricing, reason = _fast_and_exact(trial, document, forced=session.options.precision == "int8")
    if pricing is not None and session.options.precision == "auto":
        kept = {each.precision: _macs_at(session, each, baseline_ns, target) for each in (pricing, _float32(session))}
        document["macs_at_target"] = kept
        reason = _too_few(kept[INT8_STATIC], kept[FLOAT32])
    if pricing is None or (reason is not None and session.options.precision == "auto"):
        session.observer.note(f"planning in float32: {reason}")
        return _stay(session, document, str(reason))
    session.price_in(pricing)
    for entry in document["tried"]:
        entry["taken"] = entry["validation_accuracy"] is not None  # only the one that may be taken was asked about
        entry["reason"] = entry["reason"] or (None if entry["taken"] else "another int8 file is faster")
    session.observer.note(f"planning in {pricing.key}")
    return PricingChoice(pricing=pricing, document={**document, "precision": pricing.precision})


def _fast_and_exact(
    trial: PrecisionTrial, document: dict[str, Any], *, forced: bool
) -> tuple[Pricing | None, str | None]:
    """Return the pricing of the fastest int8 file of the baseline if it is faster than float32 and as exact, else why none is.

    `forced` takes the fastest that the device runs, whatever speaks against it. `document` gets what was found out.
    """
    document["tried"] = entries = trial.entries()
    ran = [index for index, entry in enumerate(entries) if entry["ratio_to_float"] is not None]
    for index in ran:
        entries[index]["reason"] = latency_reason(entries[index]["decision"])
    if not forced:
        ran = [index for index in ran if entries[index]["decision"] == DecisionCode.FASTER.value]
    if not ran:
        return None, "no static int8 file of the baseline is faster than float32 here"
    index = min(ran, key=lambda each: float(entries[each]["ratio_to_float"]))
    entry, known = entries[index], trial.known()
    document |= {"float_validation_accuracy": known.float32 / known.count, "validation_images": known.count}
    variant, lost = _that_holds(trial, trial.variants[index], entry, known)
    entry["reason"] = entry["reason"] or lost
    if lost is not None and not forced:
        return None, f"the baseline in int8: {lost}"
    return _pricing(trial, variant, float(entry["ratio_to_float"])), None


def _that_holds(
    trial: PrecisionTrial, variant: Variant, entry: dict[str, Any], known: Correct
) -> tuple[Variant, str | None]:
    """Return the first variant of the same speed whose accuracy holds, else the most accurate one and why it does not.

    `entry` becomes that variant's.
    """
    best, most, lost = variant, -1, None
    for each in variant.same_speed():
        try:
            found = trial.accuracy(each)
        except QuantizationFailed as error:
            lost = lost or str(error)
            continue
        if found["correct"] <= most:
            continue
        best, most = each, int(found["correct"])
        lost = accuracy_reason(most, known, trial.session.options.max_accuracy_drop)
        entry.update(named(each), size_bytes=found["size_bytes"], host_agreement=found["host_agreement"])
        entry["validation_accuracy"] = most / known.count
        if lost is None:
            break
    return best, lost


def _pricing(trial: PrecisionTrial, variant: Variant, ratio: float) -> Pricing:
    """Return the pricing of `variant`, in which the whole network takes `ratio` of its float32 latency."""
    session, scheme = trial.session, variant.scheme
    assert scheme is not None
    images = calibration_images(session.subject.data.train, seed=session.options.seed)
    whole = trial.file(variant)
    layers = {node: layer for node, layer in session.baseline.layer_nodes.items() if node in whole.layer_nodes}
    return Pricing(
        files=QuantizedFormat(session.format, scheme, images),
        whole=describe(whole.path, layers),
        full_ratio=ratio,
        variant=variant,
    )


def _float32(session: Session) -> Pricing:
    return session.view.pricing


def _stay(session: Session, document: Mapping[str, Any], reason: str) -> PricingChoice:
    session.price_in(_float32(session))
    tried = [{**entry, "taken": False, "reason": entry["reason"] or reason} for entry in document["tried"]]
    document = {**document, "precision": FLOAT32, "tried": tried, "reason": reason}
    return PricingChoice(pricing=session.pricing, document=document)


def _macs_at(session: Session, pricing: Pricing, baseline_ns: float, target: float) -> int | None:
    """Return the MACs of the uniform plan of this latency, None if there is none."""
    session.price_in(pricing)
    try:
        widths, model = session.learned(baseline_ns)
        plan = uniform(session.network, widths, model, target).plan
    except (Infeasible, ModelNotPrunable):
        return None
    return session.network.macs(plan.kept)


def _too_few(int8: int | None, float32: int | None) -> str | None:
    if int8 is None:
        return "no plan in int8 meets the target"
    if float32 is None or int8 >= MORE_MACS * float32:
        return None
    return (
        f"at the target's latency a uniform plan keeps {int8 / 1e6:.3g} M MACs in int8 and {float32 / 1e6:.3g} M in float32; "
        f"int8 would have to keep {MORE_MACS:g} times as many, for what it costs in accuracy itself"
    )
