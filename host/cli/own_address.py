"""What others type to reach this machine, where it listens on all its addresses."""

from __future__ import annotations

import socket

#: Addresses for documentation: only the route to them is looked up, nothing is sent.
_FAR = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}


def own_address(family: socket.AddressFamily = socket.AF_INET) -> str:
    """Return this machine's address on its way out, its host name where there is no way out."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((_FAR[family], 9))
            return str(probe.getsockname()[0])
    except OSError:
        return socket.gethostname()
