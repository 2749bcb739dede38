"""Rules of the demo upstream's parts: made-up JSON, image headers, what counts as a token."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import AsyncIterator
from importlib import resources
from typing import Any

import httpx
import jsonschema
import pytest
from support.fakes.demo_client import ask
from support.front_door import NO_AUTHORITIES
from support.waiting import PATIENCE_S

from server.demo.answer import pieces
from server.demo.images import read_picture
from server.demo.schema_sampler import Sampler
from server.demo.script import TITLE_WANTED
from server.demo.upstream import DemoUpstream

NESTED = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "format": "uuid"},
        "kind": {"const": "demo"},
        "score": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
        "even": {"type": "integer", "minimum": 3, "multipleOf": 2},
        "note": {"anyOf": [{"type": "null"}, {"type": "string", "minLength": 30}]},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 3}, "minItems": 2},
        "maybe": {"type": ["string", "null"]},
        "flag": {"type": "boolean"},
        "child": {"$ref": "#/$defs/child"},
        "all": {
            "allOf": [
                {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
                {"properties": {"b": {"type": "string"}}, "required": ["b"]},
            ]
        },
    },
    "required": ["id", "kind", "score", "even", "note", "tags", "maybe", "flag", "child", "all"],
    "additionalProperties": False,
    "$defs": {
        "child": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "more": {"type": "array", "items": {"$ref": "#/$defs/child"}, "maxItems": 0},
            },
            "required": ["name", "more"],
        }
    },
}


@pytest.fixture
async def demo() -> AsyncIterator[DemoUpstream]:
    async with DemoUpstream(speed=0) as upstream:
        yield upstream


@pytest.fixture
async def http(demo: DemoUpstream) -> AsyncIterator[httpx.AsyncClient]:
    headers = {"authorization": f"Bearer {demo.secret}"}
    async with httpx.AsyncClient(
        base_url=demo.base_url, headers=headers, timeout=PATIENCE_S, verify=NO_AUTHORITIES
    ) as opened:
        yield opened


async def test_a_json_schema_answer_fits_its_schema(http: httpx.AsyncClient) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "n", "schema": NESTED}}
    body = await ask(http, "Hello", response_format=wanted)
    made = json.loads(body["choices"][0]["message"]["content"])
    jsonschema.validate(made, NESTED)


async def test_a_json_object_answer_is_json(http: httpx.AsyncClient) -> None:
    body = await ask(http, 'Say "hi"', response_format={"type": "json_object"})
    assert json.loads(body["choices"][0]["message"]["content"])["asked"] == 'Say "hi"'


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#"},
        {"$ref": "#/$defs/none"},
        {"allOf": [{"$ref": "#"}]},
        {"anyOf": []},
        {"enum": {}},
        {"type": []},
        {"type": "integer", "multipleOf": 1e-300},
        {"type": "integer", "minimum": 1e308, "multipleOf": -1},
        {"type": "string", "minLength": 1e12},
        {"type": "array", "minItems": 1e12, "items": {"$ref": "#"}},
        {"type": "object", "properties": [], "required": [1]},
        {
            "type": "object",
            "properties": {key: {"$ref": "#"} for key in "abcdefgh"},
            "required": list("abcdefgh"),
        },
        True,
        None,
    ],
)
def test_a_strange_schema_gives_some_small_json_value(schema: Any) -> None:
    assert len(json.dumps(Sampler(schema).value())) < 100_000


async def test_a_title_is_written_where_the_chat_asks_for_one(http: httpx.AsyncClient) -> None:
    folder = resources.files("webui") / "static" / "js" / "chat" / "turns"
    titling = (folder / "titling.js").read_text()
    assert f'INSTRUCTION =\n  "{TITLE_WANTED}' in titling
    question = "**Tell me** how apples grow,\nand why they fall"
    asked = f"<question>\n{question}\n</question>\n<answer>\nThey grow.\n</answer>"
    messages = [{"role": "system", "content": TITLE_WANTED}, {"role": "user", "content": asked}]
    answer = await ask(http, "", messages=messages, max_tokens=300)
    assert answer["choices"][0]["message"]["content"] == "Demo: Tell me how apples grow"


def png(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", width, height) + bytes(9)


def jpeg(width: int, height: int) -> bytes:
    app0 = b"\xff\xe0" + struct.pack(">H", 16) + b"JFIF" + bytes(10)
    frame = b"\xff\xc2" + struct.pack(">HBHHB", 17, 8, height, width, 3) + bytes(9)
    return b"\xff\xd8" + app0 + b"\xff" + frame


def webp(form: bytes, payload: bytes) -> bytes:
    return b"RIFF" + bytes(4) + b"WEBP" + form + bytes(4) + payload.ljust(10, b"\0")


IMAGES = {
    "png": (png(640, 480), "a PNG image, 640 x 480 pixels, 33 bytes"),
    "gif": (b"GIF89a" + struct.pack("<HH", 3, 2) + bytes(3), "a GIF image, 3 x 2 pixels, 13 bytes"),
    "jpeg": (jpeg(300, 200), "a JPEG image, 300 x 200 pixels"),
    "webp lossy": (
        webp(b"VP8 ", bytes(6) + struct.pack("<HH", 0x4000 | 550, 368)),
        "a WebP image, 550 x 368 pixels",
    ),
    "webp lossless": (
        webp(b"VP8L", b"\x2f" + struct.pack("<I", (385 << 14) | 399)),
        "a WebP image, 400 x 386 pixels",
    ),
    "webp extended": (
        webp(b"VP8X", bytes(4) + b"\xff\x03\x00" + b"\xff\x01\x00"),
        "a WebP image, 1024 x 512 pixels",
    ),
    "jpeg cut short": (jpeg(300, 200)[:12], "a JPEG image, of unknown dimensions"),
    "text": (b"hello", "a file that is no PNG, JPEG, GIF or WebP image"),
}


@pytest.mark.parametrize(("data", "says"), IMAGES.values(), ids=IMAGES)
async def test_an_attached_image_is_described(
    http: httpx.AsyncClient, data: bytes, says: str
) -> None:
    url = "data:image/png;base64," + base64.b64encode(data).decode()
    parts = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": url}},
    ]
    text = (await ask(http, parts))["choices"][0]["message"]["content"]
    assert f"You attached {says}" in text


@pytest.mark.parametrize("length", range(34))
def test_no_cut_header_breaks_the_image_reader(length: int) -> None:
    for data, _ in IMAGES.values():
        assert read_picture(data[:length]).size_bytes == len(data[:length])


@pytest.mark.parametrize("text", ["", "  two  spaces\n\n", "naïve café — 東京タワー 🙂", "a" * 99])
def test_pieces_joined_are_the_text_again(text: str) -> None:
    assert "".join(pieces(text)) == text
