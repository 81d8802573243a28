"""The JSON Schemas in docs/, which refer to one another by their file names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry, Resource

FOLDER = Path(__file__).parents[2] / "docs" / "schemas"


def validate(document: Any, name: str) -> None:
    """Raise jsonschema's ValidationError unless the document keeps to docs/schemas/NAME.schema.json."""
    schemas = [json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.schema.json"))]
    registry: Registry[Any] = Registry().with_resources(
        (schema["$id"], Resource.from_contents(schema)) for schema in schemas
    )
    own = next(schema for schema in schemas if schema["$id"] == f"{name}.schema.json")
    Draft202012Validator.check_schema(own)
    Draft202012Validator(own, registry=registry).validate(document)
