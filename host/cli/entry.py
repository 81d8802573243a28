"""The group of all commands, and the way from an error to an exit code."""

from __future__ import annotations

import errno
import importlib
import logging
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass

import click

from device_agent import __version__
from host.cli.errors import ExitCode, exit_code_of, message_of

#: Name -> (module with a click command called `command`, line in the help). A module is imported when its
#: command is called.
COMMANDS: dict[str, tuple[str, str]] = {
    "devices": ("host.cli.devices", "Register devices, list them, ask what they are."),
    "enroll": ("host.cli.enroll", "Let boards join: certificates for both sides."),
    "bench": ("host.cli.bench", "Measure a model on a device."),
    "compare": ("host.cli.compare", "Compare two artifacts, sweeps, dates or runtimes on what was measured."),
    "sweep": ("host.cli.sweep", "Measure artifacts x devices x settings, all devices at once."),
    "history": ("host.cli.history", "Show a model's latency over time, and the day on which it shifted."),
    "load": ("host.cli.load", "Measure throughput, and latency under load."),
    "train": ("host.cli.train", "Train a model on a data set, to a checkpoint."),
    "compress": ("host.cli.compress", "Compress a model against latencies measured on a device."),
    "report": ("host.cli.report", "Make an HTML report of a compression, a sweep, or the history."),
    "store": ("host.cli.store", "The history itself: what is in it, export, import, check."),
    "dashboard": ("host.cli.dashboard", "Show fleet, running sweeps and history in a browser."),
}


@dataclass(slots=True)
class GlobalOptions:
    """What stands before the command's name."""

    debug: bool = False


class LazyGroup(click.Group):
    """A group whose help needs no module of a command."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module and return its command, None for an unknown name."""
        if cmd_name not in COMMANDS:
            return None
        found: click.Command = importlib.import_module(COMMANDS[cmd_name][0]).command
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table of commands."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.command(
    "host",
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 failed, 2 usage, 3 constraint not met, 4 no device reachable, 130 interrupted.",
)
@click.version_option(__version__, prog_name="boardfit")
@click.option("--debug", is_flag=True, help="Log in detail, and show a traceback with every error.")
@click.pass_obj
def group(options: GlobalOptions, debug: bool) -> None:
    """Measure neural networks on the devices that will run them, and compress them against what was measured."""
    options.debug = debug
    logging.basicConfig(stream=sys.stderr, level=logging.DEBUG if debug else logging.WARNING)


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code. Results go to stdout, everything else to stderr."""
    options = GlobalOptions()
    try:
        result = group.main(args=list(arguments), prog_name="host", obj=options, standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return ExitCode.USAGE if isinstance(error, click.UsageError) else ExitCode.FAILED
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return ExitCode.INTERRUPTED
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.EPIPE:
            # The reader of our output has gone; the interpreter would complain once more when it flushes.
            sys.stdout = None
            return ExitCode.FAILED
        if options.debug:
            traceback.print_exception(error)
        click.echo(f"error: {message_of(error)}", err=True)
        return exit_code_of(error)
    return result if isinstance(result, int) else ExitCode.DONE
