"""The messages of an upgrade, there and back."""

from __future__ import annotations

import pytest

from device_agent.codec import upgrading
from device_agent.contract.errors import InvalidRequest


@pytest.mark.parametrize("token", [None, "", "a token"])
def test_there_and_back(token: str | None) -> None:
    order = upgrading.InstallOrder(file_name="boardfit-1.whl", wheel=b"\x00PK", confirm_within_s=2.5, lease_token=token)
    assert upgrading.install_order_from_pb(upgrading.install_order_to_pb(order)) == order
    for is_current in (True, False):
        installed = upgrading.Installed(name="1.0-0123", is_current=is_current)
        assert upgrading.installed_from_pb(upgrading.installed_to_pb(installed)) == installed
    assert upgrading.confirm_request_from_pb(upgrading.confirm_request_to_pb("1.0-0123")) == "1.0-0123"


@pytest.mark.parametrize(("wheel", "within_s"), [(b"", 10.0), (b"x", 1.0), (b"x", 4000.0), (b"x", float("nan"))])
def test_orders_that_make_no_sense(wheel: bytes, within_s: float) -> None:
    with pytest.raises(InvalidRequest):
        upgrading.InstallOrder(file_name="boardfit-1.whl", wheel=wheel, confirm_within_s=within_s)
