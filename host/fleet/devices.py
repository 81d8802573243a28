"""From the name in `--device NAME` to a connected device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from device_agent.contract.device import DeviceInfo
from device_agent.contract.errors import StableError
from host.fleet.client import AgentClient
from host.fleet.inventory import LOCAL, Inventory
from host.fleet.local import local_agent


class DeviceReplaced(StableError):
    """Another device than the registered one answers at its address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A connected device: the name it goes by here, the client, and what it said of itself when it was opened."""

    name: str
    client: AgentClient
    info: DeviceInfo


@contextmanager
def open_device(name: str, *, inventory: Inventory | None = None) -> Iterator[Device]:
    """Connect to `local` (starting its agent), to a registered name, or to the only registered device of a
    profile.

    Raises UnknownDevice, DeviceUnreachable, AgentTooOld, DeviceReplaced, InventoryCorrupt, LocalAgentFailed.
    """
    with ExitStack() as stack:
        if name == LOCAL:
            client = stack.enter_context(AgentClient(stack.enter_context(local_agent())))
            yield Device(name=LOCAL, client=client, info=client.describe())
            return
        registered = (inventory or Inventory()).get(name)
        client = stack.enter_context(AgentClient(registered.address))
        info = client.describe()
        if registered.device_id is not None and registered.device_id != info.device_id:
            # Addresses move between boards; a figure filed under the wrong board is worse than none.
            raise DeviceReplaced(
                f"the agent at {registered.address} is not the device registered as {registered.name!r} (its id "
                f"is {info.device_id}, registered was {registered.device_id}; board: {info.board}). If the board or "
                f"its store was replaced on purpose: host devices add {registered.name} {registered.address} --force"
            )
        yield Device(name=registered.name, client=client, info=info)
