"""Only https, http and data URLs of media reach an upstream, wherever a part holds them."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from workers.errors import InvalidRequest
from workers.request.chat_request import parse_chat

REFUSED = (
    "file:///etc/passwd",
    "FILE:///etc/passwd",
    "FiLe:/etc/passwd",
    "file:etc/passwd",
    " file:///etc/passwd",
    "\tfile:///etc/passwd",
    "\n\x00 file:///etc/passwd",
    "fi\tle:///etc/passwd",
    "\u00a0file:///etc/passwd",
    "ftp://host/a.png",
    "gopher://host/1",
    "gs://bucket/a.png",
    "javascript:alert(1)",
    "blob:https://host/1",
    "unix:/run/docker.sock",
    "jar:http://host/a!/b",
    "view-source:https://host/",
    "https ://host/",
    "data:",
    "data:image/png;base64",
    "data :image/png;base64,AAAA",
    "xdata:image/png;base64,AAAA",
)
"""Refused everywhere."""
NO_SCHEME = ("", " ", "AAAA", "host/a.png", "/etc/passwd", "../a.png", "//host/a.png", "C/a.png")
"""Refused where a URL must be; elsewhere it may be base64."""
PASSED = (
    "https://host/a.png",
    "http://127.0.0.1:8000/a.png",
    "HTTPS://host/a.png",
    " https://host/a.png",
    "data:image/png;base64,AAAA",
    "DATA:image/png;base64,AAAA",
    "data:,hello",
    "data:image/png;base64," + "A" * 10_000,
    "https://host/?next=file:///etc/passwd",
)

URL_FIELDS = (
    {"type": "image_url", "image_url": {"url": ...}},
    {"type": "image_url", "image_url": {"detail": "low", "url": ...}},
    {"type": "video_url", "video_url": {"url": ...}},
    {"type": "audio_url", "audio_url": {"url": ...}},
    {"type": "audio_url", "audio_url": ...},
    {"type": "input_file", "file_url": ...},
    {"type": "file", "file": {"file_url": ...}},
    {"type": "image", "url": ...},
    {"type": "image", "source": {"type": "url", "url": ...}},
    {"type": "tool_result", "content": [{"type": "image", "source": {"type": "url", "url": ...}}]},
    {"type": "tool_result", "content": [{"type": "image_url", "image_url": {"url": ...}}]},
    {"type": "tool_result", "content": {"type": "image_url", "image_url": {"url": ...}}},
)
DATA_FIELDS = (
    {"type": "input_audio", "input_audio": {"data": ..., "format": "wav"}},
    {"type": "file", "file": {"file_data": ..., "filename": "a.pdf"}},
    {"type": "image", "image": ...},
    {"type": "video", "video": [...]},
    {"type": "image", "source": {"type": "base64", "data": ...}},
)


def body(part: Any, url: str) -> bytes:
    """Write a request whose second part is `part`, with the URL where it has an ellipsis."""
    content = [{"type": "text", "text": "see file:///etc/passwd"}, part]
    message = {"role": "user", "content": content}
    fields = {"model": "m", "messages": [message]}
    return json.dumps(fields, default=lambda _ellipsis: url).encode()


def path_of(part: Any) -> str:
    """Return the path of the ellipsis below the part."""
    if part is ...:
        return ""
    if isinstance(part, list):
        return "[0]" + path_of(part[0])
    name = next(name for name, inner in part.items() if "Ellipsis" in str(inner))
    return f".{name}{path_of(part[name])}"


def passes(part: Any, url: str) -> bool:
    """Return whether the request passes; a refusal must name the field."""
    refusal = None
    try:
        parse_chat(body(part, url))
    except InvalidRequest as error:
        refusal = error
    if refusal is not None:
        assert refusal.param == f"messages[0].content[1]{path_of(part)}", refusal.param
        assert "https, http or data URL" in refusal.message
    return refusal is None


@pytest.mark.parametrize("part", URL_FIELDS, ids=str)
def test_a_url_with_another_scheme_or_none_is_refused_naming_the_field(part: Any) -> None:
    assert [url for url in REFUSED + NO_SCHEME if passes(part, url)] == []


@pytest.mark.parametrize("part", DATA_FIELDS, ids=str)
def test_data_may_be_base64_but_no_url_with_another_scheme(part: Any) -> None:
    assert [url for url in REFUSED if passes(part, url)] == []
    data = base64.b64encode(bytes(range(256)) * 40).decode()
    assert passes(part, data) and passes(part, "AAAA")


@pytest.mark.parametrize("part", URL_FIELDS + DATA_FIELDS, ids=str)
def test_a_url_that_an_upstream_may_fetch_passes(part: Any) -> None:
    assert [url for url in PASSED if not passes(part, url)] == []


@pytest.mark.parametrize(
    "escaped",
    [rb"\u0066ile:///etc/passwd", rb"file:\/\/\/etc\/passwd", rb"\tfile:/x" + b"A" * 9000],
)
def test_an_escaped_url_is_read_as_an_upstream_reads_it(escaped: bytes) -> None:
    text = body(URL_FIELDS[0], "URL").replace(b"URL", escaped)
    with pytest.raises(InvalidRequest) as caught:
        parse_chat(text)
    assert caught.value.param == "messages[0].content[1].image_url.url"


def test_an_escaped_name_is_read_too() -> None:
    text = body(URL_FIELDS[0], "file:///x").replace(b'"url"', rb'"\u0075rl"')
    with pytest.raises(InvalidRequest):
        parse_chat(text)


def test_parts_nested_too_deeply_are_refused_and_not_passed_unread() -> None:
    part: Any = {"type": "image_url", "image_url": {"url": ...}}
    for _ in range(6):
        part = {"type": "tool_result", "content": [part]}
    with pytest.raises(InvalidRequest) as caught:
        parse_chat(body(part, "file:///etc/passwd"))
    assert "too deeply" in caught.value.message


@pytest.mark.parametrize(
    "part",
    [
        {"type": "tool_use", "id": "a", "name": "open", "input": {"url": ...}},
        {"type": "text", "text": ...},
        {"type": "document", "source": {"type": "text", "data": ...}},
    ],
)
def test_text_and_arguments_of_tools_may_hold_any_url(part: Any) -> None:
    assert passes(part, "file:///etc/passwd")
