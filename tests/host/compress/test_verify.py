import numpy as np
import pytest

from host.compress.verify import check_outputs

REFERENCE = np.array([[1.0, 5.0, 2.0], [9.0, 1.0, 8.9995]])


def test_equal_outputs_agree() -> None:
    check = check_outputs(REFERENCE, REFERENCE.copy())
    assert check.ok
    assert check.max_error == 0
    assert check.top1_agreement == 1


def test_float_noise_is_allowed_and_measured() -> None:
    check = check_outputs(REFERENCE, REFERENCE + 0.001)
    assert check.ok
    assert check.max_error == pytest.approx(0.001)


def test_a_near_tie_may_fall_to_either_side() -> None:
    swapped = REFERENCE.copy()
    swapped[1, 2] += 0.001
    assert swapped[1].argmax() != REFERENCE[1].argmax()
    assert check_outputs(REFERENCE, swapped).ok


def test_one_wrong_row_is_found() -> None:
    wrong = REFERENCE.copy()
    wrong[0] = [5.0, 1.0, 2.0]
    check = check_outputs(REFERENCE, wrong)
    assert not check.ok
    assert check.top1_agreement == 0.5


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_never_agrees(value: float) -> None:
    wrong = REFERENCE.copy()
    wrong[1, 1] = value
    assert not check_outputs(REFERENCE, wrong).ok


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be compared"):
        check_outputs(REFERENCE, REFERENCE[:1])
