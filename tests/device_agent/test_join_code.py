"""The code that a person types."""

from __future__ import annotations

import logging

import pytest

from device_agent.contract.errors import InvalidRequest
from device_agent.join_code import JoinCode

CODE = JoinCode.make(b"a certificate")
TEXT = str(CODE)


def test_it_comes_back_however_it_is_typed() -> None:
    assert len(TEXT) == 35 + 6
    for typed in (TEXT, TEXT.lower(), TEXT.replace("-", " "), TEXT.replace("-", ""), f"  {TEXT} \t"):
        assert JoinCode.parse(typed) == CODE
    misread = TEXT.replace("0", "O").replace("1", "l")
    assert JoinCode.parse(misread) == CODE


def test_it_knows_its_certificate() -> None:
    assert CODE.fits(b"a certificate")
    assert not CODE.fits(b"another certificate")
    assert JoinCode.make(b"a certificate").secret != CODE.secret


def test_every_slip_of_one_character_and_every_swap_of_neighbours_is_noticed() -> None:
    plain = TEXT.replace("-", "")
    slips = [
        plain[:place] + other + plain[place + 1 :]
        for place in range(len(plain))
        for other in "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
        if other != plain[place]
    ]
    slips += [
        plain[:place] + plain[place + 1] + plain[place] + plain[place + 2 :]
        for place in range(len(plain) - 1)
        if plain[place] != plain[place + 1]
    ]
    for slip in slips:
        with pytest.raises(InvalidRequest, match="typing error"):
            JoinCode.parse(slip)


@pytest.mark.parametrize(
    ("typed", "says"),
    [("", "0 characters"), (TEXT[:-1], "34 characters"), ("*" + TEXT[1:], r"cannot contain \*")],
    ids=["empty", "short", "a star"],  # the code is another in every process
)
def test_what_cannot_be_a_code_is_refused(typed: str, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        JoinCode.parse(typed)


def test_it_shows_in_no_repr_and_no_error(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("test").warning("%r", CODE)
    assert CODE.secret not in caplog.text
    with pytest.raises(InvalidRequest) as caught:
        JoinCode.parse(TEXT[:-1] + ("0" if TEXT[-1] != "0" else "1"))
    assert CODE.secret not in str(caught.value)
