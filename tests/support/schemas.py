"""Hold answers against OpenAI's published schemas (`openai_schemas/`).

Fields beyond the schema are allowed, as they are in the schema itself. A violation fails the test
with one line per fault, each naming the path inside the object.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import jsonschema

DOCUMENT = Path(__file__).parent / "openai_schemas" / "schemas.json"


@functools.cache
def _validator(name: str) -> Any:
    definitions = json.loads(DOCUMENT.read_bytes())["$defs"]
    assert name in definitions, f"{DOCUMENT.name} has no {name}"
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$ref": f"#/$defs/{name}",
        "$defs": definitions,
    }
    validator = jsonschema.Draft202012Validator
    return validator(schema, format_checker=validator.FORMAT_CHECKER)


def _validate(name: str, instance: object) -> None:
    faults = [
        f"  {fault.json_path}: {fault.message}" for fault in _validator(name).iter_errors(instance)
    ]
    if faults:
        shown = json.dumps(instance, indent=1, ensure_ascii=False)
        raise AssertionError("\n".join([f"not a valid {name}:", *faults, shown]))


def validate_completion(instance: object) -> None:
    """Require a whole chat completion."""
    _validate("CreateChatCompletionResponse", instance)


def validate_chunk(instance: object) -> None:
    """Require one chunk of a streamed chat completion."""
    _validate("CreateChatCompletionStreamResponse", instance)


def validate_error(instance: object) -> None:
    """Require an error body, or the error event of a stream."""
    _validate("ErrorResponse", instance)


def validate_model_list(instance: object) -> None:
    """Require the list of models."""
    _validate("ListModelsResponse", instance)


def validate_model(instance: object) -> None:
    """Require one model."""
    _validate("Model", instance)
