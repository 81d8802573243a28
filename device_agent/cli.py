"""The command `device-agent`: serve, join, info, sensors, doctor, bench, load."""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from device_agent import __version__
from device_agent.contract.errors import BoardfitError, InvalidRequest
from device_agent.quantities import size_bytes

if TYPE_CHECKING:
    from subprocess import Popen

    from device_agent.bench_options import Option
    from device_agent.credentials import LiveCredentials
    from device_agent.profiles import Profile

DONE, FAILED, USAGE, NOT_MET = 0, 1, 2, 3
INTERRUPTED = 130  # 128 + SIGINT, as shells count

_DEFAULT_QUOTA = 2 * 2**30


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code: 0 done, 1 failed, 2 usage, 3 bound not kept, 130 interrupted."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    # gRPC's core reports a port in use in its own words, before we can say it in ours.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    given = sys.argv[1:] if arguments is None else arguments
    options = _parser(with_bench=given[:1] != ["serve"]).parse_args(given)
    try:
        if options.command == "serve":
            return _serve(options)
        if options.command == "info":
            return _info(options)
        if options.command == "sensors":
            return _sensors(options)
        if options.command == "join":
            return _join(options)
        if options.command == "doctor":
            return _doctor(options)
        if options.command == "install":
            return _install(options)
        if options.command == "load":
            return _load(options)
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
    from device_agent.sensors import survey
    from device_agent.server import ListenAddress, serve
    from device_agent.store import ArtifactStore
    from device_agent.worker.launch import clear_stale_folders

    address = ListenAddress.parse(options.listen)
    trusted = _live_credentials(options.store)
    if trusted is not None and options.insecure:
        _say("this agent has joined a host, so it uses TLS; --insecure has no effect")
    if trusted is None and not address.is_loopback:
        if not options.insecure:
            _say(
                f"{address} can be reached by others, and without TLS whoever reaches it can run models here. Join a host"
                " first: `host enroll` there, `device-agent join HOST CODE` here. Or listen on 127.0.0.1 and use an SSH"
                " tunnel, or accept it with --insecure."
            )
            return USAGE
        _say(f"warning: {address} is open to everyone on the network, unencrypted (--insecure)")
    if options.announce:
        from device_agent import announce

        announce.check(address.host)
    announcing: list[Popen[bytes]] = []
    bound_heap()
    quota = options.quota or _default_quota(options.store)
    store = ArtifactStore(options.store, quota_bytes=quota)
    try:
        clear_stale_folders()
        profile = _profile(options.profile)
        found = survey(expected=None if profile is None else profile.sensors)
        if options.meter is not None:
            from device_agent.sensors.external_meter import with_meter

            found = with_meter(found, options.meter)
        agent = Agent(
            store,
            describe_board=describe_board,
            profile=profile,
            sensors=found.sensors,
            missing_sensors=found.missing,
        )

        def listening(at: ListenAddress) -> None:
            _announce(at)
            if options.announce:
                told = announce.Announcement(
                    address=at.host,
                    port=at.port,
                    device_id=store.device_id(),
                    profile=None if profile is None else profile.name,
                    board=describe_board().board,
                    version=__version__,
                    joined=trusted is not None,
                )
                announcing.append(announce.start(told))

        asyncio.run(serve(agent, address, announce=listening, credentials=trusted))
        return agent.exit_code
    finally:
        for process in announcing:
            announce.stop(process)
        store.close()


def _live_credentials(store: Path) -> LiveCredentials | None:
    """Return what the agent got by joining, None if it has not. Raises CredentialsUnusable rather than go without TLS."""
    from device_agent.credentials import FILE_NAME, LiveCredentials, load

    path = store / FILE_NAME
    found = load(path)
    return None if found is None else LiveCredentials(path, found)


def _join(options: argparse.Namespace) -> int:
    from device_agent.join_command import join_host

    profile = _profile(options.profile)
    join_host(
        options.host,
        options.code,
        store=options.store,
        address=options.address,
        port=options.port,
        profile=None if profile is None else profile.name,
    )
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


def _sensors(options: argparse.Namespace) -> int:
    from device_agent.sensors_report import sensors

    sensors(
        root=options.root, profile=options.profile, record_to=options.record, as_json=options.json, meter=options.meter
    )
    return DONE


def _doctor(options: argparse.Namespace) -> int:
    from device_agent.doctor import doctor

    sound = doctor(root=options.root, profile=options.profile, store=options.store, as_json=options.json)
    return DONE if sound else FAILED


def _install(options: argparse.Namespace) -> int:
    from device_agent.install import InstallOptions, main

    asked = InstallOptions(
        prefix=options.prefix,
        source=options.source,
        listen=options.listen,
        serve=tuple(options.serve),
        extras=None if options.extras is None else tuple(options.extras.split(",")),
        service=options.service,
        dry_run=options.dry_run,
    )
    main(asked, uninstall=options.uninstall, purge=options.purge)
    return DONE


def _bench(options: argparse.Namespace) -> int:
    from device_agent.bench import bench
    from device_agent.bench_request import BenchOptions

    asked = BenchOptions.of(vars(options), len(options.models))
    profile = _profile(options.profile)
    bench(options.models, asked, store=options.store, profile=profile, meter=options.meter, as_json=options.json)
    return DONE


def _load(options: argparse.Namespace) -> int:
    from device_agent.load_command import load_model
    from device_agent.load_options import LoadOptions

    asked = LoadOptions.of(vars(options))
    profile = _profile(options.profile)
    kept = load_model(options.model, asked, store=options.store, profile=profile, as_json=options.json)
    return DONE if kept else NOT_MET


def _say(text: str) -> None:
    print(f"device-agent: {text}", file=sys.stderr)  # noqa: T201 - a command speaks to its user


def _announce(address: object) -> None:
    print(f"listening on {address}", flush=True)  # noqa: T201 - the documented first line


def _parser(*, with_bench: bool = True) -> argparse.ArgumentParser:
    """Return the parser. The many options of `bench` and `load` are left out where they would only take a server's memory."""
    parser = argparse.ArgumentParser(
        prog="device-agent", description="Measures neural networks on the board it runs on."
    )
    parser.add_argument("--version", action="version", version=f"device-agent {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    serve = commands.add_parser("serve", help="serve hosts until stopped by a signal")
    serve.add_argument("--listen", default="127.0.0.1:50051", metavar="ADDRESS:PORT", help="default: %(default)s")
    serve.add_argument(
        "--quota",
        type=_reads(size_bytes),
        metavar="SIZE",
        help="room for artifacts, such as 500M or 2Gi; default: 2 GiB, or half of the free disk where that is less",
    )
    serve.add_argument(
        "--announce", action="store_true", help="let hosts in the network find it by mDNS; needs zeroconf"
    )
    serve.add_argument("--insecure", action="store_true", help="allow an address that others can reach, without TLS")
    _add_meter_option(serve)
    _add_device_options(serve)

    join = commands.add_parser(
        "join",
        help="get this board's certificate from a host",
        description="Get this board's certificate from the host where `host enroll` waits. From then on both sides authenticate.",
    )
    join.add_argument("host", metavar="HOST[:PORT]", help="where `host enroll` waits")
    join.add_argument(
        "code", nargs="+", metavar="CODE", help="the code that it shows; case, spaces and dashes do not matter"
    )
    join.add_argument("--port", type=int, default=50051, help="where the agent will listen; default: %(default)s")
    join.add_argument(
        "--address",
        metavar="HOST:PORT",
        help="where hosts will reach the agent; default: this board's address on the way to HOST, and --port",
    )
    _add_device_options(join)

    info = commands.add_parser("info", help="say what this device is")
    info.add_argument("--json", action="store_true", help="as JSON on stdout")
    _add_device_options(info)

    sensors = commands.add_parser("sensors", help="show what the board's sensors say, and what is missing and why")
    sensors.add_argument("--root", type=Path, metavar="DIR", help="read a recorded board instead of this one")
    sensors.add_argument("--record", type=Path, metavar="DIR", help="write a recording of the board to a new folder")
    sensors.add_argument("--profile", metavar="NAME", help="device profile, where the board is not recognised")
    sensors.add_argument("--json", action="store_true", help="as JSON on stdout")
    _add_meter_option(sensors)

    doctor = commands.add_parser(
        "doctor",
        help="say what is missing on this board, and how to mend it",
        description="Say what is missing on this board, and how to mend it. Exit code 1 if something fails.",
    )
    doctor.add_argument("--root", type=Path, metavar="DIR", help="look at a recorded board's files instead of this one")
    doctor.add_argument("--json", action="store_true", help="as JSON on stdout")
    _add_device_options(doctor)

    install = commands.add_parser(
        "install",
        help="install the agent as a service of this board, or upgrade it in place",
        usage="sudo device-agent install [OPTIONS] [-- OPTIONS OF serve]",
        description="Install the agent as a service of its own user: an environment beside the one that runs, with the runtimes "
        "that have wheels for this board, then the switch. Done again, it upgrades. docs/install.md has the whole story.",
    )
    install.add_argument(
        "--from", dest="source", type=Path, metavar="WHEEL", help="default: the agent that runs this command"
    )
    install.add_argument("--listen", default="127.0.0.1:50051", metavar="ADDRESS:PORT", help="default: %(default)s")
    install.add_argument(
        "--prefix", type=Path, default=Path("/opt/boardfit"), metavar="DIR", help="default: %(default)s"
    )
    install.add_argument(
        "--extras", metavar="NAMES", help="runtimes to install, with commas; default: what fits the board"
    )
    install.add_argument(
        "--no-service", dest="service", action="store_false", help="only the environment; needs no root"
    )
    install.add_argument("--dry-run", action="store_true", help="say every step, and do none")
    install.add_argument(
        "--uninstall", action="store_true", help="stop and remove what was installed, but for the store"
    )
    install.add_argument("--purge", action="store_true", help="with --uninstall: the store and the user too")
    install.add_argument("serve", nargs="*", help=argparse.SUPPRESS)

    bench = commands.add_parser(
        "bench",
        help="measure model files without a host",
        usage="device-agent bench [OPTIONS] MODEL [MODEL ...]",
        description="Measure model files: latency, memory, and whether the figures can be trusted. Several are measured in "
        "turns, and each is compared with the first.",
    )
    bench.add_argument("models", type=Path, nargs="+", metavar="MODEL", help="an .onnx or .tflite file")
    load = commands.add_parser(
        "load",
        help="throughput and latency under load, without a host",
        usage="device-agent load [OPTIONS] MODEL",
        description="Put load on a model file: how many requests per second the board serves, how long they take while others "
        "wait, and the highest rate that keeps a latency. Exit code 3 if the bound is not kept.",
    )
    load.add_argument("model", type=Path, metavar="MODEL", help="an .onnx or .tflite file")
    if with_bench:
        from device_agent.bench_options import OPTIONS as BENCH_OPTIONS
        from device_agent.load_options import OPTIONS as LOAD_OPTIONS

        _add_options(bench, BENCH_OPTIONS)
        bench.add_argument("--nodes", dest="layers", action="store_true", help=argparse.SUPPRESS)  # its former name
        _add_options(load, LOAD_OPTIONS)
    for measuring in (bench, load):
        measuring.add_argument("--json", action="store_true", help="as JSON on stdout")
        _add_device_options(measuring)
    _add_meter_option(bench)
    return parser


def _add_options(parser: argparse.ArgumentParser, table: Sequence[Option]) -> None:
    """Give a parser the options of a table, in its groups."""
    groups = {name: parser.add_argument_group(name) for name in dict.fromkeys(option.group for option in table)}
    for option in table:
        default = "" if option.default is None else f"; default: {option.default}"
        words = (option.help + default).replace("%", "%%")
        group = groups[option.group]
        if option.read is not None:
            group.add_argument(
                option.flag,
                type=_reads(option.read),
                action="append" if option.many else "store",
                metavar=option.metavar,
                help=words,
            )
        elif option.off is not None:
            group.add_argument(option.flag, action=argparse.BooleanOptionalAction, default=None, help=words)
        else:
            group.add_argument(option.flag, action="store_true", help=words)


def _reads(read: Callable[[str], object]) -> Callable[[str], object]:
    def convert(text: str) -> object:
        try:
            return read(text)
        except InvalidRequest as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return convert


def _add_device_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--store", type=Path, default=default_store(), metavar="DIR", help="default: %(default)s")
    parser.add_argument("--profile", metavar="NAME", help="device profile, where the board is not recognised")


def _add_meter_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--meter",
        metavar="SPEC",
        help="external power meter: serial:PORT@BAUD, tcp:ADDRESS:PORT or file:PATH (docs/external-meters.md)",
    )


def default_store() -> Path:
    """Return the agent's folder among the user's data (XDG base directories)."""
    data = os.environ.get("XDG_DATA_HOME", "")
    # The specification says that relative paths in these variables are to be ignored.
    base = Path(data) if Path(data).is_absolute() else Path.home() / ".local/share"
    return base / "boardfit" / "agent"


def _default_quota(store: Path) -> int:
    existing = next(path for path in (store, *store.absolute().parents) if path.exists())
    return min(_DEFAULT_QUOTA, shutil.disk_usage(existing).free // 2)
