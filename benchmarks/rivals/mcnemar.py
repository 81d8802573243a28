"""McNemar's test: are two nets' errors on the same images as frequent? Only images that one of them gets right count."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class McNemar:
    """`ours_only` and `theirs_only` are the images that one net alone gets right; `p` is two-sided, mid-p.

    Under the null hypothesis the disagreements split like coin tosses. The mid-p value takes half of the probability of what
    was observed; it is less timid than the exact test and keeps its level (Fagerland et al. 2013, doi 10.1186/1471-2288-13-91).
    """

    ours_only: int
    theirs_only: int
    p: float


def mcnemar(ours: np.ndarray, theirs: np.ndarray) -> McNemar:
    """Compare right answers, bool (images,) each, on the same images in the same order."""
    if ours.shape != theirs.shape:
        raise ValueError(f"answers to {ours.shape} and {theirs.shape} images cannot be compared")
    ours_only, theirs_only = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    return McNemar(ours_only=ours_only, theirs_only=theirs_only, p=mid_p(ours_only, theirs_only))


def mid_p(one: int, other: int) -> float:
    """Return the two-sided mid-p value of `one` against `other` under a fair coin; 1 without a toss."""
    from scipy.stats import binom

    tosses = one + other
    if not tosses:
        return 1.0
    least = min(one, other)
    return float(min(1.0, 2 * binom.cdf(least, tosses, 0.5) - binom.pmf(least, tosses, 0.5)))


def pack(right: np.ndarray) -> str:
    """Return bool (images,) as hexadecimal text, one bit per image."""
    return np.packbits(right).tobytes().hex()


def unpack(text: str, count: int) -> np.ndarray:
    """Return what `pack` packed, bool (count,)."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8), count=count).astype(bool)
