r"""Find the error in what an upstream sent, in any of the shapes that upstreams use.

    {"error": {"message", "type", "code", "param"}}      OpenAI and most others
    {"error": "..."}                                     Ollama
    {"object": "error", "message", "type", "code"}       vLLM
    {"detail": "..." or [{"loc", "msg"}]}                FastAPI, Mistral
    [{"error": {"code", "message", "status"}}]           Gemini
    {"error": {"metadata": {"raw": "{...}"}}}            OpenRouter: the provider's own error
    {"error": {"message": "... {\"error\": {...}}"}}       proxies
    {"errors": [{"code", "message"}]}                    Cloudflare
    {"message", "__type"}, {"Message"}                   AWS
    {"base_resp": {"status_code", "status_msg"}}         MiniMax
    {"code", "msg"}, {"title", "status", "detail"}       Chinese clouds, RFC 9457

Errors are read from the outermost to the innermost: the inner one is the reason for the outer.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from workers.providers.stated_wait import wait_in_json, wait_in_words

_MAX_LEVELS = 6
_MAX_ERRORS = 20
_MAX_EMBEDDED_CHARS = 20_000
_MAX_LITERAL_CHARS = 4000

_START_CHARS, _END_CHARS = 3000, 1000
"""How much of the words is read: a message that quotes the prompt is as long as that."""

_CODE = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")
_PARAM = re.compile(r"[\w.\[\]-]{1,200}")
_MESSAGES = ("message", "Message", "msg", "status_msg", "error_msg", "errorMessage", "faultstring")
_KINDS = ("type", "status", "__type", "reason", "error_type", "title")
_CODES = ("code", "error_code", "errorCode", "Code")
_INNER = ("error", "detail", "errors", "Error", "fault", "base_resp", "innererror", "inner_error")
"""Members that hold an error, or a list of them."""
_EMBEDDED = ("message", "raw", "body")
"""Members that may hold an error as text."""
_CLASS = re.compile(
    r"(?:[\w.]+\.)?((?:ContextWindow|ContentPolicy|RateLimit|Throttling|Authentication)\w*)\b"
)
"""The class of an exception at the start of a message; elsewhere the prompt may contain it."""
_GENERIC = re.compile(r"provider returned error|upstream error|bad request|error", re.IGNORECASE)


class Problem(NamedTuple):
    """An error as an upstream reports it.

    `message` is the innermost and the only text for clients; `words` are the messages of all
    levels. `marks` are the types and codes of all levels, in lower case and without separators.
    `status` is an HTTP status that its JSON contains, `wait_s` a wait that it states.
    """

    message: str
    type: str = ""
    code: str | None = None
    param: str | None = None
    status: int | None = None
    words: str = ""
    marks: str = ""
    wait_s: float | None = None


def find_problem(body: bytes) -> Problem | None:
    """Return the error in a JSON body, or None."""
    try:
        reported = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return read_problem(reported)


def read_problem(reported: Any) -> Problem | None:
    """Return the error in decoded JSON; see `find_problem`."""
    if isinstance(reported, list) and reported:
        reported = reported[0]
    if not isinstance(reported, dict) or not _is_error(reported):
        return None
    message = kind = words = ""
    code: str | None = None
    param: str | None = None
    status: int | None = None
    marks: list[str] = []
    for error in _levels(reported):
        text = _message_of(error)
        if text:
            named = _CLASS.match(text)
            if named:
                marks.append(named[1])
            words = f"{text}\n{words}" if words else text
            if not message or not _GENERIC.fullmatch(text.strip(" .")):
                message = text
        kinds = [error[name] for name in _KINDS if isinstance(error.get(name), str)]
        codes = [error[name] for name in _CODES if name in error]
        kind = next(iter(kinds), kind)
        code = next((one for one in codes if _is_code(one)), code)
        param = error["param"] if _is_param(error.get("param")) else param
        numbers = (*codes, error.get("status"), error.get("statusCode"))
        status = next(filter(None, map(_status, numbers)), status)
        codes.append(error.get("error"))  # with a message beside it: {"error": "unauthorized"}
        marks += [*kinds, *filter(_is_code, codes), *_reasons(error)]
    if len(words) > _START_CHARS + _END_CHARS:
        words = f"{words[:_START_CHARS]}\n{words[-_END_CHARS:]}"
    return Problem(
        message,
        type=kind,
        code=code,
        param=param,
        status=status,
        words=words,
        marks=" ".join(dict.fromkeys(map(normalized, marks))),
        wait_s=_first(wait_in_json(reported), wait_in_words(words)),
    )


def normalized(mark: str) -> str:
    """Return a type or code in the form of `Problem.marks`: `rate_limit` and `RateLimit` agree."""
    return re.sub(r"[^a-z0-9]", "", mark[:100].lower())


def _is_error(reported: dict[str, Any]) -> bool:
    """Return whether an object is an error: chunks and pings are none."""
    if reported.get("error") or reported.get("detail") or reported.get("errors"):
        return True
    if reported.get("Error") or reported.get("fault"):
        return True
    base = reported.get("base_resp")  # MiniMax adds it to good answers, with status_code 0
    if isinstance(base, dict) and base.get("status_code"):
        return True
    return any(_is_text(reported.get(name)) for name in _MESSAGES)


def _levels(reported: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield an error and those inside it, from the outermost to the innermost."""
    level = [reported]
    left = _MAX_ERRORS
    for _ in range(_MAX_LEVELS):
        inner: list[dict[str, Any]] = []
        for error in level:
            yield error
            inner.extend(_inside(error))
        level = inner[:left]
        left -= len(level)


def _inside(error: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the errors that are members of an error, or that its texts contain."""
    metadata = error.get("metadata")
    for holder in (error, metadata if isinstance(metadata, dict) else {}):
        for name in (*_INNER, *_EMBEDDED):
            value = holder.get(name)
            if isinstance(value, list) and name in _INNER and name != "detail":
                value = next((one for one in value if isinstance(one, dict)), None)
            if isinstance(value, dict):
                if name in _INNER or _is_error(value):
                    yield value
            elif isinstance(value, str):
                yield from _in_text(value, alone=name == "raw")


def _in_text(text: str, *, alone: bool) -> Iterator[dict[str, Any]]:
    """Yield the error that a text contains; `alone`: a text without one is an error by itself."""
    embedded = _embedded(text)
    if embedded is not None:
        yield embedded
    elif alone and text.strip() and text.strip()[0] not in "<{[":
        yield {"message": text}


def _embedded(text: str) -> dict[str, Any] | None:
    """Return the error that a message contains as JSON, or as Python writes it."""
    start, end = text.find("{"), text.rfind("}")
    if start < 0 or end < start or end - start > _MAX_EMBEDDED_CHARS:
        return None
    piece = text[start : end + 1]
    for candidate in (piece, piece.replace('\\"', '"')):
        try:
            found = msgspec.json.decode(candidate.encode(errors="replace"))
        except (msgspec.DecodeError, RecursionError):
            continue
        return found if isinstance(found, dict) and _is_error(found) else None
    if len(piece) > _MAX_LITERAL_CHARS or not piece.startswith("{'"):
        return None
    try:  # "Error code: 400 - {'error': {'message': ...}}": str() of the OpenAI SDK's error
        found = ast.literal_eval(piece)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    return found if isinstance(found, dict) and _is_error(found) else None


def _message_of(error: dict[str, Any]) -> str:
    """Return the message of one error, or ""; of a message that contains an error, nothing."""
    for name in ("detail", *_MESSAGES, "error"):
        text = error.get(name)
        if name == "detail" and isinstance(text, list):
            text = "; ".join(filter(None, map(_validation_words, text)))
        if isinstance(text, str) and text.strip():
            inner = _embedded(text)
            return "" if inner is not None and _has_message(inner) else text
    return ""


def _has_message(error: dict[str, Any]) -> bool:
    return any(_message_of(one) for one in _levels(error))


def _validation_words(item: Any) -> str:
    """Return one of FastAPI's validation errors (`loc`, `msg`) as text."""
    if not isinstance(item, dict) or not isinstance(item.get("msg"), str):
        return ""
    place = ".".join(str(step) for step in item.get("loc") or () if step != "body")
    return f"{place}: {item['msg']}" if place else str(item["msg"])


def _reasons(error: dict[str, Any]) -> Iterator[str]:
    """Yield the further codes of an error: Google's `details`, FastAPI's types."""
    for name in ("details", "detail"):
        items = error.get(name)
        for item in items[:_MAX_ERRORS] if isinstance(items, list) else ():
            if isinstance(item, dict):
                yield from (item[key] for key in ("reason", "type") if _is_text(item.get(key)))


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_code(value: Any) -> bool:
    return isinstance(value, str) and _CODE.fullmatch(value) is not None


def _is_param(value: Any) -> bool:
    return isinstance(value, str) and _PARAM.fullmatch(value) is not None


def _status(code: Any) -> int | None:
    if isinstance(code, str) and code.isdecimal() and len(code) == 3:
        code = int(code)
    return code if type(code) is int and 400 <= code <= 599 else None


def _first(*waits: float | None) -> float | None:
    """Return the first positive wait, else any."""
    stated = [wait_s for wait_s in waits if wait_s is not None]
    return next((wait_s for wait_s in stated if wait_s > 0), stated[0] if stated else None)
