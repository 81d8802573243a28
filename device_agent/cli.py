"""The command `device-agent`: serve, info, bench."""

from __future__ import annotations

import argparse
import logging
import os
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from device_agent import __version__
from device_agent.contract.errors import BoardfitError, InvalidRequest

if TYPE_CHECKING:
    from device_agent.profiles import Profile

DONE, FAILED, USAGE = 0, 1, 2
INTERRUPTED = 130  # 128 + SIGINT, as shells count

_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30}
_DEFAULT_QUOTA = 2 * 2**30
#: Linux has no processor beyond this (CONFIG_NR_CPUS on x86-64 is 8192 at most).
_LAST_CPU = 8191


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0 done, 1 failed, 2 usage, 130 interrupted."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    # gRPC's core reports a port in use in its own words, before we can say it in ours.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        if options.command == "serve":
            return _serve(options)
        if options.command == "info":
            return _info(options)
        return _bench(options)
    except (BoardfitError, OSError) as error:
        _say(str(error))
        return USAGE if isinstance(error, InvalidRequest) else FAILED
    except KeyboardInterrupt:
        _say("interrupted")
        return INTERRUPTED


def _import_asyncio_without_ssl() -> None:
    """Import asyncio as on a Python that was built without ssl: gRPC brings its own TLS, and ssl costs 4.2 MiB."""
    if "ssl" not in sys.modules:
        sys.modules["ssl"] = None  # type: ignore[assignment]  # makes `import ssl` raise ImportError
        try:
            import asyncio  # noqa: F401
        finally:
            del sys.modules["ssl"]


def _serve(options: argparse.Namespace) -> int:
    _import_asyncio_without_ssl()
    import asyncio

    from device_agent.agent import Agent
    from device_agent.board import describe_board
    from device_agent.heap import bound_heap
    from device_agent.sensors import discover
    from device_agent.server import ListenAddress, serve
    from device_agent.store import ArtifactStore
    from device_agent.worker.launch import clear_stale_folders

    address = ListenAddress.parse(options.listen)
    if not address.is_loopback:
        if not options.insecure:
            _say(
                f"{address} can be reached by others, and this version has no TLS yet: whoever reaches"
                " it can run models here. Listen on 127.0.0.1 and use an SSH tunnel, or accept it with --insecure."
            )
            return USAGE
        _say(f"warning: {address} is open to everyone on the network, unencrypted (--insecure)")
    bound_heap()
    quota = options.quota or _default_quota(options.store)
    store = ArtifactStore(options.store, quota_bytes=quota)
    try:
        clear_stale_folders()
        agent = Agent(
            store,
            describe_board=describe_board,
            profile=_profile(options.profile),
            sensors=discover(),
        )
        asyncio.run(serve(agent, address, announce=_announce))
    finally:
        store.close()
    return DONE


def _profile(name: str | None) -> Profile | None:
    """Return the named device profile, else that of the board we are on, None where none matches."""
    from device_agent.board import describe_board
    from device_agent.profiles import get, recognise

    if name is not None:
        return get(name)
    board = describe_board()
    return recognise(board.compatible, board.architecture)


def _info(options: argparse.Namespace) -> int:
    from device_agent.report import info

    info(options.store, profile=_profile(options.profile), as_json=options.json)
    return DONE


def _bench(options: argparse.Namespace) -> int:
    from device_agent.contract.settings import Stopping
    from device_agent.report import bench

    longest = options.max_time
    if longest is None and options.min_time is not None:
        longest = max(options.min_time, Stopping().max_time_s)
    given = {"min_runs": options.min_runs, "min_time_s": options.min_time, "max_time_s": longest}
    bench(
        options.model,
        store=options.store,
        runtime=options.runtime,
        threads=options.threads,
        provider=options.provider,
        cpus=options.cpus,
        stopping=Stopping(**{name: value for name, value in given.items() if value is not None}),
        nodes=options.nodes,
        profile=_profile(options.profile),
        as_json=options.json,
    )
    return DONE


def _say(text: str) -> None:
    print(f"device-agent: {text}", file=sys.stderr)  # noqa: T201 - a command speaks to its user


def _announce(address: object) -> None:
    print(f"listening on {address}", flush=True)  # noqa: T201 - the documented first line


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="device-agent", description="Measures neural networks on the board it runs on."
    )
    parser.add_argument("--version", action="version", version=f"device-agent {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help="serve hosts until stopped by a signal")
    serve.add_argument("--listen", default="127.0.0.1:50051", metavar="ADDRESS:PORT", help="default: %(default)s")
    serve.add_argument(
        "--quota",
        type=_size,
        metavar="SIZE",
        help="room for artifacts, such as 500M or 2Gi; default: 2 GiB, or half of the free disk where that is less",
    )
    serve.add_argument("--insecure", action="store_true", help="allow an address that others can reach, without TLS")
    _add_device_options(serve)

    info = commands.add_parser("info", help="say what this device is")
    info.add_argument("--json", action="store_true", help="as JSON on stdout")
    _add_device_options(info)

    bench = commands.add_parser("bench", help="measure a model file without a host")
    bench.add_argument("model", type=Path, metavar="MODEL", help="an .onnx or .tflite file")
    bench.add_argument("--runtime", help="default: onnxruntime for .onnx, litert for .tflite")
    bench.add_argument("--threads", type=int, metavar="N", help="default: the device's")
    bench.add_argument("--provider", help="execution provider of ONNX Runtime")
    bench.add_argument("--cpus", type=_cpus, metavar="LIST", help="pin to processors, such as 0,1 or 4-7")
    bench.add_argument("--min-runs", type=int, metavar="N")
    bench.add_argument("--min-time", type=float, metavar="SECONDS")
    bench.add_argument("--max-time", type=float, metavar="SECONDS")
    bench.add_argument("--nodes", action="store_true", help="add the time of each node")
    bench.add_argument("--json", action="store_true", help="as JSON on stdout")
    _add_device_options(bench)
    return parser


def _add_device_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--store", type=Path, default=default_store(), metavar="DIR", help="default: %(default)s")
    parser.add_argument("--profile", metavar="NAME", help="device profile, where the board is not recognised")


def default_store() -> Path:
    """Return the agent's folder among the user's data (XDG base directories)."""
    data = os.environ.get("XDG_DATA_HOME", "")
    # The specification says that relative paths in these variables are to be ignored.
    base = Path(data) if Path(data).is_absolute() else Path.home() / ".local/share"
    return base / "boardfit" / "agent"


def _default_quota(store: Path) -> int:
    existing = next(path for path in (store, *store.absolute().parents) if path.exists())
    return min(_DEFAULT_QUOTA, shutil.disk_usage(existing).free // 2)


def _size(text: str) -> int:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kMG]i?|)B?", text)
    if not match or (match[2] == "ki"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 500M, 2G or 2Gi")
    size = float(match[1]) * _UNITS[match[2]]
    if not 1 <= size < 2**63:
        raise argparse.ArgumentTypeError(f"{text!r} is no size that a disk can have")
    return int(size)


def _cpus(text: str) -> tuple[int, ...]:
    cpus: list[int] = []
    for part in text.split(","):
        first, separator, last = part.partition("-")
        try:
            found = range(int(first), int(last if separator else first) + 1)
            if not found or found[-1] > _LAST_CPU:
                raise ValueError
            cpus += found
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a list such as 0,1 or 4-7") from None
    return tuple(cpus)
