"""Exports as Parquet, through pyarrow: a row per record, its raw samples as lists."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from device_agent.contract.errors import StableError
from host.results.exchange import DERIVED, FORMAT, KEYS, OBJECTS, VERSION, ExportUnusable, check_version

if TYPE_CHECKING:
    import pyarrow

#: Records of a row group, which is what is in memory at a time.
_GROUP = 200


class ParquetMissing(StableError):
    """pyarrow is not installed."""


def write_parquet(file: IO[bytes], records: Iterable[Mapping[str, Any]]) -> int:
    """Write records into an open file and return how many there were. Raises ParquetMissing."""
    arrow = _arrow()
    from pyarrow import parquet

    schema, count, rest = _schema(arrow), 0, iter(records)
    with parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        while group := list(islice(rest, _GROUP)):
            rows = [{key: _text(record[key]) if key in OBJECTS else record[key] for key in KEYS} for record in group]
            writer.write_table(arrow.Table.from_pylist(rows, schema=schema))
            count += len(group)
    return count


def read_parquet(path: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the records of a file. Raises ParquetMissing, ExportUnusable."""
    arrow = _arrow()
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            header = json.loads((file.schema_arrow.metadata or {}).get(b"boardfit", b"{}"))
            check_version(header, path)
            for batch in file.iter_batches(batch_size=_GROUP):
                for row in batch.to_pylist():
                    values = {**dict.fromkeys(KEYS), **row}
                    for key in OBJECTS:
                        values[key] = None if values[key] is None else json.loads(values[key])
                    yield values
    except (arrow.ArrowException, OSError, ValueError) as error:
        if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError):
            raise
        raise ExportUnusable(f"{path} is damaged or no Parquet file: {error}. Nothing was imported") from error


def _text(value: Any) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _schema(arrow: Any) -> pyarrow.Schema:
    text, whole, number = arrow.string(), arrow.int64(), arrow.float64()
    kinds: dict[str, Any] = dict.fromkeys(KEYS, text)
    kinds["threads"] = whole
    kinds.update({name: arrow.list_(text) for name in ("sha256", "names", "reading_channel")})
    for name in DERIVED:
        is_count = name.startswith(("runs", "peak"))
        kinds[f"derived_{name}"] = arrow.list_(whole if is_count else number)
    for name in KEYS:
        if name.startswith(("run_", "served_")) or name == "reading_time_ns":
            kinds[name] = arrow.list_(whole)
    kinds["run_disturbed"] = arrow.list_(arrow.int8())
    kinds["run_kind"] = arrow.list_(arrow.int8())
    kinds["reading_value"] = arrow.list_(number)
    header = json.dumps({"format": FORMAT, "version": VERSION})
    return arrow.schema([(name, kinds[name]) for name in KEYS], metadata={"boardfit": header})


def _arrow() -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise ParquetMissing(
            "Parquet needs pyarrow: `pip install 'boardfit[parquet]'`; .jsonl holds the same and needs nothing"
        ) from error
    return pyarrow
