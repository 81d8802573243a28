"""The systemd unit of an installed agent: a user of its own, a read-only system, and the devices that sensors need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

UNIT = "boardfit-agent.service"
USER = "boardfit"
#: StateDirectory of the unit, below /var/lib.
STORE = Path("/var/lib/boardfit")
#: Left to the rest of the system: at least this much, or this share.
_SPARED_BYTES, _SPARED_SHARE = 128 * 2**20, 0.15
#: /dev/vcio is what vcgencmd asks the Pi's firmware through, as the group video; the others are external power meters.
_DEVICES = ("/dev/vcio rw", "/dev/vchiq rw", "char-ttyACM rw", "char-ttyUSB rw")
_GROUPS = ("video", "render", "dialout")
#: The energy counters of x86 belong to root (CVE-2020-8694); the agent's group gets them, and nobody else.
_RAPL = "/bin/sh -c 'for file in /sys/class/powercap/intel-rapl:*/energy_uj; do chgrp {user} $$file && chmod g+r $$file; done'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """What differs between boards. `serve` are the arguments of `device-agent serve`; `groups` those that the system has."""

    prefix: Path
    python: str
    serve: tuple[str, ...]
    memory_bytes: int
    groups: tuple[str, ...]
    has_rapl: bool = False
    is_jetson: bool = False

    @property
    def memory_max_bytes(self) -> int:
        """The memory that agent and workers may take together."""
        return int(self.memory_bytes - max(_SPARED_BYTES, self.memory_bytes * _SPARED_SHARE))

    def text(self) -> str:
        """Return the unit file."""
        groups = " ".join(group for group in _GROUPS if group in self.groups)
        # CUDA opens a dozen device files whose names differ between releases.
        devices = [] if self.is_jetson else ["DevicePolicy=closed", *(f"DeviceAllow={each}" for each in _DEVICES)]
        lines = [
            "# Written by `device-agent install`, which writes it anew; put changes into a drop-in: systemctl edit "
            + UNIT,
            "[Unit]",
            "Description=Boardfit agent: measures neural networks on this board",
            "Wants=network-online.target",
            "After=network-online.target",
            # A version on trial that fails is followed by the one before; that takes two starts.
            "StartLimitIntervalSec=300",
            "StartLimitBurst=20",
            "",
            "[Service]",
            "Type=exec",
            "ExecStart=" + " ".join([self.python, "-I", f"{self.prefix}/launch.py", "serve", *self.serve]),
            *([f"ExecStartPre=+-{_RAPL.format(user=USER)}"] if self.has_rapl else []),
            f"User={USER}",
            f"Group={USER}",
            *([f"SupplementaryGroups={groups}"] if groups else []),
            f"WorkingDirectory={STORE}",
            f"StateDirectory={STORE.name}",
            "StateDirectoryMode=0700",
            "UMask=0077",
            "Restart=on-failure",
            "RestartSec=2",
            "TimeoutStopSec=30",
            "",
            "# A worker that takes too much memory is killed alone; the agent goes on.",
            f"MemoryMax={self.memory_max_bytes // 2**20}M",
            "OOMPolicy=continue",
            "TasksMax=512",
            "",
            "ProtectSystem=strict",
            f"# An upgrade that a host pushes is installed by the agent itself.\nReadWritePaths={self.prefix}/versions",
            "ProtectHome=yes",
            "PrivateTmp=yes",
            *devices,
            "NoNewPrivileges=yes",
            "CapabilityBoundingSet=",
            "AmbientCapabilities=",
            "ProtectClock=yes",
            "ProtectControlGroups=yes",
            "ProtectHostname=yes",
            "ProtectProc=invisible",
            "RemoveIPC=yes",
            "ProtectKernelLogs=yes",
            "ProtectKernelModules=yes",
            "ProtectKernelTunables=yes",
            "LockPersonality=yes",
            "RestrictNamespaces=yes",
            "RestrictRealtime=yes",
            "RestrictSUIDSGID=yes",
            "RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK",
            "# Workers bind their threads to processors: sched_setaffinity is part of it.",
            "SystemCallFilter=@system-service",
            "SystemCallErrorNumber=EPERM",
            "SystemCallArchitectures=native",
            "",
            "[Install]",
            "WantedBy=multi-user.target",
        ]
        return "\n".join(lines) + "\n"


def groups_of(text: str) -> tuple[str, ...]:
    """Return the names in a text like /etc/group."""
    return tuple(line.partition(":")[0] for line in text.splitlines() if line)


def quoted(arguments: Sequence[str]) -> tuple[str, ...]:
    """Return arguments as a unit file takes them: no variables, no specifiers, and spaces kept."""
    return tuple(
        f'"{one}"' if " " in one else one for one in (each.replace("%", "%%").replace("$", "$$") for each in arguments)
    )
