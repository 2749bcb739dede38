"""The errors for requests that do not fit the schema: which field is wrong, and what it must be.

`RULES` says of each field what to send, in words. msgspec names types and paths in its own way;
both are converted to those of OpenAI's API: `messages[0].role`.
"""

from __future__ import annotations

import re

import msgspec

from workers.errors import InvalidRequest

_MESSAGE = re.compile(r"(?P<what>.*?)(?: - at (?:key in )?`\$(?P<path>[^`]*)`)?", re.DOTALL)
_MISSING = re.compile(r"Object missing required field `(\w+)`")

_KIND = re.compile(r"Expected `(\w+)")
_KINDS = {
    "str": "a string",
    "bool": "true or false",
    "int": "a whole number",
    "array": "a list",
    "object": "an object",
}

RULES = {
    "model": "the id of a model as a string; GET /api/v1/models lists them",
    "messages": "a list of at least one message",
    "messages[]": "an object with 'role' and 'content'",
    "messages[].role": "one of system, developer, user, assistant, tool, function",
    "messages[].content": "a string or a list of content parts (null only for an assistant)",
    "messages[].content[]": "an object with a 'type'",
    "messages[].content[].type": "a string, such as text or image_url",
    "messages[].content[].text": "a string",
    "messages[].content[].image_url": "an object with a 'url'",
    "messages[].content[].image_url.url": "an https, http or data URL",
    "messages[].tool_call_id": "a string: the id of the tool call that this message answers",
    "messages[].tool_calls": "a list of the tool calls that the model made",
    "messages[].tool_calls[].function.arguments": "a string that holds the arguments as JSON",
    "stream": "true or false",
    "stream_options": 'an object, such as {"include_usage": true}',
    "stream_options.include_usage": "true or false",
    "n": "a whole number from 1 to 128",
    "max_tokens": "a whole number of at most 31 bits",
    "max_completion_tokens": "a whole number of at most 31 bits",
    "temperature": "a number",
    "top_p": "a number",
    "presence_penalty": "a number",
    "frequency_penalty": "a number",
    "logprobs": "true or false",
    "top_logprobs": "a whole number",
    "logit_bias": "an object of token ids and numbers",
    "stop": "a string or a list of strings",
    "seed": "a whole number of at most 64 bits",
    "tools": "a list of tools",
    "tools[]": "an object with a 'type'",
    "tools[].type": "a string, such as function",
    "tools[].function": "an object with a 'name'",
    "tools[].function.name": "a string of at least one character",
    "tools[].function.parameters": "a JSON Schema object",
    "tool_choice": "a string, such as auto, or an object that names a tool",
    "parallel_tool_calls": "true or false",
    "response_format": "an object with a 'type'",
    "response_format.type": "a string: text, json_object or json_schema",
    "metadata": "an object",
    "user": "a string",
}


def schema_error(error: msgspec.ValidationError, prefix: str = "") -> InvalidRequest:
    """Convert msgspec's error: the path as `param`, and a message with what is expected.

    `prefix` is the path of the value that was decoded.
    """
    said = _MESSAGE.fullmatch(str(error))
    what, path = (said["what"], said["path"] or "") if said else (str(error), "")
    param = (prefix + path).removeprefix(".").split("[...]")[0]
    missing = _MISSING.match(what)
    if missing:
        return missing_field(f"{param}.{missing[1]}".removeprefix("."))
    return wrong_value(param, what)


def missing_field(param: str) -> InvalidRequest:
    """Return the error for a field that must be there."""
    rule = RULES.get(_rule_name(param), "")
    return InvalidRequest(
        f"Missing required parameter: '{param}'. Send {rule or 'it'}.", param=param
    )


def wrong_value(param: str, what: str = "") -> InvalidRequest:
    """Return the error for a value of the wrong type; `what` is what msgspec says of it."""
    rule = RULES.get(_rule_name(param)) or _rule_of_kind(what)
    if rule is None:
        return InvalidRequest(f"Invalid value for '{param}': {what.replace('`', '')}.", param=param)
    return InvalidRequest(f"Invalid value for '{param}'. It must be {rule}.", param=param)


def _rule_of_kind(what: str) -> str | None:
    """Return the type that msgspec expected, as JSON calls it."""
    kind = _KIND.match(what)
    return _KINDS.get(kind[1]) if kind else None


def _rule_name(param: str) -> str:
    return re.sub(r"\[\d+\]", "[]", param)
