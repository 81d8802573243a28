"""From the name in `--device NAME` to a connected device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from device_agent.contract.device import DeviceInfo
from device_agent.contract.errors import NotTrusted, StableError
from host.fleet import identity, renewal
from host.fleet.client import AgentClient
from host.fleet.inventory import LOCAL, Inventory, RegisteredDevice
from host.fleet.local import local_agent
from host.fleet.upload import Retry


class DeviceReplaced(StableError):
    """Another device than the registered one answers at its address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A connected device: the name it goes by here, the client, and what it said of itself when it was opened."""

    name: str
    client: AgentClient
    info: DeviceInfo


def connect(device: RegisteredDevice, *, timeout_s: float = 10.0, retry: Retry | None = None) -> AgentClient:
    """Return a client of a registered device, over TLS if it has joined. Nothing is sent before the first call.

    Raises NotTrusted for a device that has joined and cannot be trusted now (see identity.peer_of).
    """
    peer = identity.peer_of(device)
    return AgentClient(device.address, timeout_s=timeout_s, retry=retry, peer=peer, name=device.name)


def as_found(device: RegisteredDevice) -> RegisteredDevice:
    """Return the device with the name in the certificate that is shown at its address, or without one where nothing speaks TLS.

    The name is not verified yet: `connect` does that. A host without a certificate of its own takes none for true.
    """
    from host.fleet import diagnosis

    own = identity.load_own()
    name = None if own is None else diagnosis.device_name_at(device.address)
    if own is None or name is None:
        return replace(device, tls_name=None, tls_ca=None)
    return replace(device, tls_name=name, tls_ca=identity.fingerprint(own.authority_pem))


def identify(device: RegisteredDevice, *, timeout_s: float = 10.0) -> tuple[RegisteredDevice, DeviceInfo]:
    """Ask the agent at the device's address what it is; return the device as it is there now, and the answer.

    A device that speaks TLS is found out, and must be of this host's authority; one that was known to has to. Raises what
    AgentClient.describe does, NotTrusted above all.
    """
    try:
        with connect(device, timeout_s=timeout_s) as client:
            info = client.describe()
    except NotTrusted:
        found = as_found(device)
        if found.tls_name is None or found == device:
            raise
        device = found
        with connect(device, timeout_s=timeout_s) as client:
            info = client.describe()
    return replace(device, device_id=info.device_id, profile=info.profile), info


@contextmanager
def open_device(name: str, *, inventory: Inventory | None = None) -> Iterator[Device]:
    """Connect to `local` (starting its agent), to a registered name, or to the only registered device of a
    profile.

    Raises UnknownDevice, DeviceUnreachable, NotTrusted, AgentTooOld, DeviceReplaced, InventoryCorrupt, LocalAgentFailed.
    """
    with ExitStack() as stack:
        if name == LOCAL:
            client = stack.enter_context(AgentClient(stack.enter_context(local_agent())))
            yield Device(name=LOCAL, client=client, info=client.describe())
            return
        registered = (inventory or Inventory()).get(name)
        client = stack.enter_context(connect(registered))
        info = client.describe()
        renewal.tend(client)
        if registered.device_id is not None and registered.device_id != info.device_id:
            # Addresses move between boards; a figure filed under the wrong board is worse than none.
            raise DeviceReplaced(
                f"the agent at {registered.address} is not the device registered as {registered.name!r} (its id "
                f"is {info.device_id}, registered was {registered.device_id}; board: {info.board}). If the board or "
                f"its store was replaced on purpose: host devices add {registered.name} {registered.address} --force"
            )
        yield Device(name=registered.name, client=client, info=info)
