"""The file of a sweep: what it may say, read from TOML and checked, with errors that name file, line and key."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from device_agent.bench_options import OPTIONS, Option
from device_agent.contract.errors import InvalidRequest
from device_agent.profiles import tomllib
from host.sweep.limits import KEYS as LIMIT_KEYS
from host.sweep.limits import Limits, limits_of
from host.sweep.options import options_to_json
from host.sweep.toml_lines import line_of

_TOP = ("name", "artifacts", "devices", "repeats", "settings", "matrix", "include", "exclude", "limits")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
#: --difference compares models that share a worker, and a job of a sweep has one.
_OPTIONS = {option.flag[2:]: option for option in OPTIONS if option.name != "difference"}
_MAX_REPEATS = 10_000


class InvalidSweep(InvalidRequest):
    """The file of a sweep cannot be used; the message says where and why, and what is allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """An [[include]] or [[exclude]]: patterns, None for any, and for each option the values that it speaks of."""

    artifact: str | None
    device: str | None
    settings: Mapping[str, tuple[Any, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepSpec:
    """What a file asks for. Options are JSON values by the names of BenchOptions; `folder` is what its paths start from."""

    name: str
    folder: Path
    artifacts: tuple[str, ...]
    devices: tuple[str, ...]
    repeats: int
    settings: Mapping[str, Any]
    matrix: Mapping[str, tuple[Any, ...]]
    includes: tuple[Rule, ...]
    excludes: tuple[Rule, ...]
    limits: Limits
    document: Mapping[str, Any]


def read_spec(path: Path) -> SweepSpec:
    """Read and check a file. Raises InvalidSweep."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSweep(f"cannot read {path}: {error.strerror if isinstance(error, OSError) else error}") from error
    return parse_spec(text, path=path)


def parse_spec(text: str, *, path: Path) -> SweepSpec:
    """Check the text of a file; `path` is for messages, and its folder what paths in it start from. Raises InvalidSweep."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidSweep(f"{path} is not TOML: {error}") from error
    return _Reader(path, text, document).spec()


class _Reader:
    """Reads one document; every method raises InvalidSweep with the place."""

    def __init__(self, path: Path, text: str, document: dict[str, Any]) -> None:
        self._path, self._text, self._document = path, text, document

    def spec(self) -> SweepSpec:
        document = self._document
        self._known(document, _TOP, "")
        settings = self._table("settings")
        matrix = self._table("matrix")
        self._known(settings, _OPTIONS, "settings")
        self._known(matrix, _OPTIONS, "matrix")
        twice = next((key for key in matrix if key in settings), None)
        if twice is not None:
            raise self._error("matrix", twice, "is in [settings] too; name it in one of the two")
        return SweepSpec(
            name=self._name(),
            folder=self._path.absolute().parent,
            artifacts=self._texts("artifacts", "files, patterns such as models/*.onnx, and names of the zoo"),
            devices=self._texts("devices", 'names and selectors, such as "local", "profile:pi4" or "!pi4-3"'),
            repeats=self._repeats(),
            settings=self._values(settings, "settings"),
            matrix={
                name: values for key, value in matrix.items() for name, values in [self._list("matrix", key, value)]
            },
            includes=self._rules("include"),
            excludes=self._rules("exclude"),
            limits=self._limits(),
            document=document,
        )

    def _name(self) -> str:
        name = self._document.get("name", self._path.stem)
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise self._error(
                "",
                "name",
                f"{name!r} is no name: use letters, digits, dots, dashes and underscores, a letter or digit first",
            )
        return name

    def _texts(self, key: str, what: str) -> tuple[str, ...]:
        found = self._document.get(key)
        texts = [found] if isinstance(found, str) else found
        if (
            not isinstance(texts, list)
            or not texts
            or not all(isinstance(text, str) and text.strip() for text in texts)
        ):
            raise self._error("", key, f"must be a list of {what}")
        return tuple(text.strip() for text in texts)

    def _repeats(self) -> int:
        repeats = self._document.get("repeats", 1)
        if isinstance(repeats, bool) or not isinstance(repeats, int) or not 1 <= repeats <= _MAX_REPEATS:
            raise self._error("", "repeats", f"{repeats!r} is not a whole number in 1..{_MAX_REPEATS}")
        return repeats

    def _limits(self) -> Limits:
        table = self._table("limits")
        self._known(table, LIMIT_KEYS, "limits")
        try:
            return limits_of(table)
        except InvalidRequest as error:
            key = next((key for key in table if str(error).startswith(key)), None)
            raise self._error("limits", key, str(error), bare=True) from None

    def _rules(self, kind: str) -> tuple[Rule, ...]:
        tables = self._document.get(kind, [])
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            raise self._error("", kind, f"is written as [[{kind}]], once for each")
        rules = []
        for number, table in enumerate(tables):
            self._known(table, ("artifact", "device", *_OPTIONS), kind, number)
            if not table:
                raise self._error(kind, None, "is empty; name an artifact, a device or options", number=number)
            patterns = {}
            for key in ("artifact", "device"):
                patterns[key] = table.get(key)
                if patterns[key] is not None and (not isinstance(patterns[key], str) or not patterns[key].strip()):
                    raise self._error(kind, key, 'must be a pattern, such as "mobilenet*"', number=number)
            settings = dict(self._list(kind, key, value, number) for key, value in table.items() if key not in patterns)
            rules.append(Rule(artifact=patterns["artifact"], device=patterns["device"], settings=settings))
        return tuple(rules)

    def _values(self, table: Mapping[str, Any], where: str) -> dict[str, Any]:
        values = {_OPTIONS[key].name: self._value(where, key, value) for key, value in table.items()}
        return options_to_json(values)

    def _list(self, where: str, key: str, value: Any, number: int = 0) -> tuple[str, tuple[Any, ...]]:
        """Return an option's name and its values; in a matrix they have to be a list."""
        if not isinstance(value, list):
            if where == "matrix":
                raise self._error(
                    where, key, f"must be a list of values, such as {key} = [{_shown(value)}]", number=number
                )
            value = [value]
        if not value:
            raise self._error(where, key, "is an empty list", number=number)
        values = [options_to_json({key: self._value(where, key, each, number)})[key] for each in value]
        for place, each in enumerate(values):
            if each in values[:place]:
                raise self._error(where, key, f"names {_shown(value[place])} twice", number=number)
        return _OPTIONS[key].name, tuple(values)

    def _value(self, where: str, key: str, value: Any, number: int = 0) -> Any:
        option = _OPTIONS[key]
        try:
            return _read(option, value, self._path.absolute().parent)
        except InvalidRequest as error:
            raise self._error(where, key, str(error), number=number) from None

    def _table(self, key: str) -> dict[str, Any]:
        table = self._document.get(key, {})
        if not isinstance(table, dict):
            raise self._error("", key, f"is a table: write [{key}] and its keys below it")
        return table

    def _known(self, table: Mapping[str, Any], known: Collection[str], where: str, number: int = 0) -> None:
        for key in table:
            if key not in known:
                near = difflib.get_close_matches(key.replace("_", "-"), known, n=1, cutoff=0.5)
                hint = f"did you mean {near[0]}? " if near else ""
                what = (
                    "is no option of `host bench` for a sweep"
                    if where in ("settings", "matrix")
                    else "is not known here"
                )
                raise self._error(where, key, f"{what}; {hint}Allowed: {', '.join(known)}", number=number)

    def _error(self, table: str, key: str | None, message: str, *, number: int = 0, bare: bool = False) -> InvalidSweep:
        line = line_of(self._text, table, key, number=number)
        where = str(self._path) if line is None else f"{self._path}:{line}"
        array = f"[[{table}]]" if table in ("include", "exclude") else f"[{table}]" if table else ""
        subject = "" if key is None or bare else f"{key}: "
        return InvalidSweep(f"{where}: {array}{' ' if array else ''}{subject}{message}")


def _read(option: Option, value: Any, folder: Path) -> Any:
    """Return the value of an option as the command line would read it."""
    if option.read is None:
        if not isinstance(value, bool):
            raise InvalidRequest(f"{_shown(value)} is neither true nor false")
        return value
    if option.many:
        if isinstance(value, dict):
            value = [f"{name}={_text(each)}" for name, each in value.items()]
        return tuple(sorted(option.read(_text(each)) for each in (value if isinstance(value, list) else [value])))
    if option.name == "cpus" and isinstance(value, list):
        value = ",".join(_text(each) for each in value)
    text = _text(value)
    if option.name == "inputs" and text.lower().endswith(".npz"):
        text = str(folder / text)
    return option.read(text)


def _text(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise InvalidRequest(f"{_shown(value)} is not a text or a number")
    return str(value)


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f'"{value}"' if isinstance(value, str) else str(value)
