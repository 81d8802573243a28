"""From a table of options that agent and host share to options of click, in groups as `--help` shows them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click

from device_agent.bench_options import Option
from device_agent.contract.errors import InvalidRequest


class GroupedOption(click.Option):
    """An option that stands under a heading."""

    def __init__(self, *arguments: Any, group: str, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.group = group


class GroupedCommand(click.Command):
    """A command whose help lists options by group; those of no group come last, as `Options`."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one section per group, in the order in which the groups first occur."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx) if isinstance(param, click.Option) else None
            if record is not None:
                group = param.group if isinstance(param, GroupedOption) else "Options"
                sections.setdefault(group, []).append(record)
        last = sections.pop("Options", [])
        for heading, rows in [*sections.items(), ("Options", last)]:
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(rows)


def shared_options(table: Sequence[Option]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that gives a command the options of a table. What is not given is None."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for option in _last_first(table):
            function = _decorator(option)(function)
        return function

    return decorate


def _last_first(table: Iterable[Option]) -> list[Option]:
    """Decorators are applied from the bottom up, and the help goes by the order in which options were declared."""
    return list(table)[::-1]


def _decorator(option: Option) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    words = option.help[0].upper() + option.help[1:]
    if option.default is not None:
        words += f" [default: {option.default}]"
    if option.read is None:
        flags = option.flag if option.off is None else f"{option.flag}/{option.off}"
        return click.option(
            flags, option.name, is_flag=True, default=None, help=words, cls=GroupedOption, group=option.group
        )
    return click.option(
        option.flag,
        option.name,
        callback=_reader(option.read),
        metavar=option.metavar,
        multiple=option.many,
        help=words,
        cls=GroupedOption,
        group=option.group,
    )


def _reader(read: Callable[[str], Any]) -> Callable[[click.Context, click.Parameter, Any], Any]:
    def convert(_context: click.Context, _param: click.Parameter, given: Any) -> Any:
        try:
            if isinstance(given, tuple):
                return tuple(read(text) for text in given)
            return None if given is None else read(given)
        except InvalidRequest as error:
            raise click.BadParameter(str(error)) from None

    return convert
