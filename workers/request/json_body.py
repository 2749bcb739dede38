"""Read a JSON object of an untrusted client, without building more of it than needed.

msgspec checks the grammar even of what it skips: escapes, surrogates, control characters, numbers
(measured with 0.22). It does not check UTF-8 in skipped text, repeated keys, a depth far below the
interpreter's limit, or the cost of these checks: this module does.
"""

from __future__ import annotations

import codecs
import re
from itertools import chain
from typing import Any

import msgspec

from workers.errors import InvalidRequest
from workers.units import MIB

MAX_DEPTH = 64
MAX_VALUES = 250_000
"""Most strings (with keys), and most arrays and objects: checking more costs too much time."""

MAX_MEMBERS = 10_000

_CUT_PAIR = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}.{0,5}\Z", re.DOTALL)
"""Half a surrogate pair at the end of the body: msgspec reports it as truncated input."""
_SURROGATE = re.compile(
    rb"(?<!\\)((?:\\\\)*+)\\u[dD](?:([89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F])|[89a-fA-F])[0-9a-fA-F]{2}"
)
"""An escaped surrogate pair (with group 2), or half of one, that follows no odd backslash."""
MAX_SURROGATES = 20_000
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_OBJECTS = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])
_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])
_SMALL_BYTES = MIB  # always cheap to build, whatever it contains
_FEW_VALUES = 20_000
_ONE_KIND = bytes.maketrans(b"{}", b"[]")
_NOT_BRACKETS = bytes(set(range(256)) - set(b"{}[]"))
# For JSON whose grammar has been checked.
_KEY = re.compile(rb'[ \t\n\r]*+("[^"\\]*+(?:\\.[^"\\]*+)*+")[ \t\n\r]*+:[ \t\n\r]*+')
_AFTER_VALUE = re.compile(rb"[ \t\n\r]*+[,}]")


def read_object(body: bytes) -> dict[str, msgspec.Raw]:
    """Return the members of a JSON object, each value as sent.

    Raises InvalidRequest for an empty body, invalid UTF-8, invalid JSON, more than 64 levels, a
    value that is not an object, and a key that occurs twice at the top level.
    """
    if not body.isascii():
        _check_utf8(body)
    cheap = len(body) <= _SMALL_BYTES or not any(
        _occurs_over(body, mark, _FEW_VALUES) for mark in (b",", b"{", b"[")
    )
    # Every string has one or two quotes without a backslash before them: an upper bound.
    if not cheap and body.count(b'"') - body.count(b'\\"') > 2 * MAX_VALUES:
        raise _too_many()
    try:
        members = _MEMBERS.decode(body)
    except msgspec.ValidationError as error:
        raise InvalidRequest("The request body must be a JSON object.") from error
    except msgspec.DecodeError as error:
        raise InvalidRequest(_malformed(body, error)) from error
    except RecursionError as error:
        raise _too_deep() from error
    if _occurs_over(body, b"{", MAX_DEPTH // 2) or _occurs_over(body, b"[", MAX_DEPTH // 2):
        if cheap:
            _check_built_depth(body)
        else:
            _check_depth(body)
    refuse_repeated_keys(body, members)
    return members


def with_whole_characters(body: bytes) -> bytes:
    """Return JSON with U+FFFD for each escaped half of a surrogate pair.

    Clients that cut texts by UTF-16 units send such halves. A body with more than 20,000 escaped
    surrogates is returned as it is: mending it costs too much time.
    """
    if body.count(b"\\ud") + body.count(b"\\uD") > MAX_SURROGATES:
        return body
    return _SURROGATE.sub(
        lambda found: found[0] if found[2] is not None else found[1] + rb"\ufffd", body
    )


def _check_utf8(body: bytes) -> None:
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise InvalidRequest(
            f"The request body is not valid UTF-8 (byte {error.start}). Send JSON encoded as UTF-8."
        ) from error


def _occurs_over(body: bytes, mark: bytes, times: int) -> bool:
    """Return whether `mark` occurs more often than `times`; for rare marks faster than count."""
    at = body.find(mark)
    while at >= 0 and times > 0:
        times -= 1
        at = body.find(mark, at + 1)
    return at >= 0


def _check_built_depth(body: bytes) -> None:
    """Refuse more than 64 levels by building the values, which is fastest for few values."""
    try:
        level: list[Any] = [msgspec.json.decode(body)]
    except RecursionError as error:
        raise _too_deep() from error
    except msgspec.DecodeError:
        _check_depth(body)  # a number is too large to build, which is valid JSON
        return
    for _ in range(MAX_DEPTH):
        inner: list[Any] = []
        for container in level:
            inner.extend(container.values() if type(container) is dict else container)
        level = [value for value in inner if type(value) is dict or type(value) is list]
        if not level:
            return
    raise _too_deep()


def _check_depth(body: bytes) -> None:
    """Refuse more than 64 levels without building values: each round removes the innermost."""
    if b"\\" in body:
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    outside_strings = b"".join(body.split(b'"')[::2])
    brackets = outside_strings.translate(_ONE_KIND, _NOT_BRACKETS)
    if len(brackets) > 2 * MAX_VALUES:
        raise _too_many()
    for _ in range(MAX_DEPTH):
        brackets = brackets.replace(b"[]", b"")
    if brackets:
        raise _too_deep()


def read_objects(items: msgspec.Raw, path: str) -> list[dict[str, msgspec.Raw]]:
    """Return the members of each object in a list. Raises InvalidRequest for a repeated key.

    `path` is the place of the list. Anything but a list of objects is returned as an empty list.
    """
    try:
        objects = _OBJECTS.decode(items)
    except msgspec.ValidationError:
        return []
    members = sum(map(len, objects))
    keys = len("".join(chain.from_iterable(objects)))
    values = sum(map(len, chain.from_iterable(map(dict.values, objects))))
    # `_compact_bytes` of each object, the commas between them and the brackets of the list.
    spare = len(items) - (2 * len(objects) + members * 4 + keys + values + 1)
    # Python's json.dumps adds a space after each colon and comma, and most clients use it.
    spaces = 2 * members - 1 - objects.count({})
    if spare and (spare != spaces or bytes(items) != _spaced_list(objects)):
        for index, text in enumerate(_ITEMS.decode(items)):
            refuse_repeated_keys(text, objects[index], f"{path}[{index}].")
    return objects


def _spaced_list(objects: list[dict[str, msgspec.Raw]]) -> bytes:
    return b"[%b]" % b", ".join([b"{%b}" % _spaced_members(members) for members in objects])


def _spaced_members(members: dict[str, msgspec.Raw]) -> bytes:
    """Return the members of an object as Python's json.dumps writes them."""
    return b", ".join([b'"%b": %b' % (key.encode(), value) for key, value in members.items()])


def _compact_bytes(members: dict[str, msgspec.Raw]) -> int:
    """Return the size of an object in compact JSON, if its keys need no escapes."""
    return 1 + len(members) * 4 + len("".join(members)) + sum(map(len, members.values()))


def refuse_repeated_keys(
    text: bytes | msgspec.Raw, members: dict[str, msgspec.Raw], path: str = ""
) -> None:
    """Raise InvalidRequest for a key that occurs twice in an object; `path` is its place.

    RFC 8259, section 4: parsers differ in which value they keep, so an upstream could use another
    model, limit or URL than the one that was checked here. `members` are what msgspec has read.
    """
    spare = len(text) - _compact_bytes(members)
    # In compact JSON distinct keys and their values account for every byte. A repeated key takes
    # five more and its name: what Python's json.dumps adds to small objects is less.
    if not spare or not members or spare < 5 + min(map(len, members)):
        return
    body = bytes(text)
    if body == b"{%b}" % _spaced_members(members):
        return
    if len(members) > MAX_MEMBERS:
        raise InvalidRequest(f"The JSON object has more than {MAX_MEMBERS} members. Send fewer.")
    key = _repeated_key(body, members)
    if key is not None:
        name = f"{path}{key[:100]}"
        raise InvalidRequest(f"'{name}' occurs more than once. Send it once.", param=name)


def _repeated_key(body: bytes, members: dict[str, msgspec.Raw]) -> str | None:
    """Return a key that occurs twice, or None, without building values.

    msgspec keeps the last value of a key. So a key is repeated when the text after it is not the
    value that was kept.
    """
    seen: set[str] = set()
    at = body.index(b"{") + 1
    while members and (name := _KEY.match(body, at)) is not None:
        key: str = msgspec.json.decode(name[1])
        value = bytes(members[key])
        after = _AFTER_VALUE.match(body, name.end() + len(value))
        if key in seen or after is None or not body.startswith(value, name.end()):
            return key
        seen.add(key)
        at = after.end()
    return None


def _malformed(body: bytes, error: msgspec.DecodeError) -> str:
    if not body.strip():
        return "The request body is empty. Send a JSON object."
    detail = str(error).removeprefix("JSON is malformed: ")
    if "surrogate" in detail or "end of hex escape" in detail or _CUT_PAIR.search(body[-11:]):
        detail = "a \\u escape is half of a surrogate pair, which stands for no character"
    elif body.startswith(codecs.BOM_UTF8):
        detail = "it begins with a byte order mark"
    elif "truncated" in detail:
        detail = "it ends too early"
    return f"The request body is not valid JSON: {detail}."


def _too_deep() -> InvalidRequest:
    return InvalidRequest(
        f"The JSON is nested more than {MAX_DEPTH} levels deep. Send flatter JSON."
    )


def _too_many() -> InvalidRequest:
    return InvalidRequest(f"The JSON has more than {MAX_VALUES} values. Send fewer.")
