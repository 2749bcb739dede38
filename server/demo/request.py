"""Read the fields of a chat completion request that the demo upstream uses."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta, Struct

from server.demo.images import data_url_bytes, read_picture

COMMAND = re.compile(r"\s*demo:\s*([a-z]+)(?:\s+(?:(\d{3})|(\w+)))?", re.IGNORECASE)
SHOWN = 200
"""How much of a message is quoted in the answer."""


class DemoRefusal(Exception):
    """An answer with another status than 200, in OpenAI's error shape."""

    def __init__(self, status: int, message: str, kind: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body = msgspec.json.encode(
            {"error": {"message": message, "type": kind, "param": None, "code": code}}
        )


class Message(Struct):
    """A message; content parts stay as sent."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[dict[str, Any]] | None = None

    @property
    def text(self) -> str:
        """The text of all parts, joined."""
        if not isinstance(self.content, list):
            return self.content or ""
        return "\n".join(str(part.get("text") or "") for part in self.content)


class DemoFunction(Struct):
    """A tool's name and parameters."""

    name: Annotated[str, Meta(min_length=1, max_length=200)]
    parameters: dict[str, Any] | None = None


class Tool(Struct):
    """A tool; only functions are supported."""

    function: DemoFunction


class DemoStreamOptions(Struct):
    """The options of a stream."""

    include_usage: bool = False


class JsonSchema(Struct):
    """The JSON schema of the answer."""

    schema: dict[str, Any] = {}


class ResponseFormat(Struct):
    """The format of the answer."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    json_schema: JsonSchema | None = None


class Command(NamedTuple):
    """A command in a prompt, such as `demo: error 429` or `demo: shape cut`.

    Ordinary prompts have an empty name.
    """

    name: str = ""
    status: int = 0
    word: str = ""


class DemoRequest(Struct):
    """The fields that the demo uses; all others are accepted and ignored."""

    model: str
    messages: Annotated[list[Message], Meta(min_length=1)]
    stream: bool | None = None
    stream_options: DemoStreamOptions | None = None
    n: Annotated[int, Meta(ge=1, le=16)] | None = None
    max_tokens: Annotated[int, Meta(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Meta(ge=1)] | None = None
    stop: str | Annotated[list[str], Meta(max_length=4)] | None = None
    tools: list[Tool] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    response_format: ResponseFormat | None = None

    @property
    def limit(self) -> int | None:
        """The most tokens of the answer, or None."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def stops(self) -> list[str]:
        """The stop sequences."""
        given = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return [each for each in given if each]

    @property
    def include_usage(self) -> bool:
        """True if the stream should end with a usage chunk."""
        return self.stream_options is not None and self.stream_options.include_usage

    @property
    def said(self) -> str:
        """The text of the last user message, in one line."""
        users = [message for message in self.messages if message.role == "user"]
        return " ".join(users[-1].text.split()) if users else ""

    @property
    def shown(self) -> str:
        """The same, shortened for a quotation."""
        said = self.said or "(nothing in words)"
        return said if len(said) <= SHOWN else said[: SHOWN - 1] + "…"

    @property
    def turn(self) -> int:
        """The number of user messages."""
        return sum(message.role == "user" for message in self.messages)

    @property
    def command(self) -> Command:
        """The command in the last user message."""
        found = COMMAND.match(self.said)
        if found is None:
            return Command()
        return Command(found[1].lower(), int(found[2] or 0), (found[3] or "").lower())

    @property
    def tool_results(self) -> list[str]:
        """The tool results at the end of the conversation; empty without any."""
        results: list[str] = []
        for message in reversed(self.messages):
            if message.role not in ("tool", "function"):
                break
            results.insert(0, " ".join(message.text.split())[:SHOWN])
        return results

    def attachments(self) -> list[str]:
        """Describe the parts of the last user message that are not text. Raises DemoRefusal."""
        users = [message for message in self.messages if message.role == "user"]
        content = users[-1].content if users else None
        parts = content if isinstance(content, list) else []
        return [_describe(part) for part in parts if part.get("type") != "text"]


DECODER = msgspec.json.Decoder(DemoRequest)


def read_request(body: bytes) -> DemoRequest:
    """Decode a request. Raises DemoRefusal with status 400."""
    try:
        return DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise invalid(f"The body is not a chat completion request: {error}") from error


def invalid(message: str) -> DemoRefusal:
    """Return a DemoRefusal with status 400."""
    return DemoRefusal(400, message, "invalid_request_error")


def _describe(part: dict[str, Any]) -> str:
    kind = str(part.get("type"))
    held = part.get(kind)
    if kind == "image_url":
        url = held.get("url") if isinstance(held, dict) else held
        return _describe_image(url)
    if kind in ("input_audio", "file") and isinstance(held, dict):
        size = len(str(held.get("data") or held.get("file_data") or ""))
        name = held.get("filename") or "a file without a name"
        return f"{name}, {size:,} characters of base64"
    raise invalid(f"Unknown content part {kind[:50]!r}.")


def _describe_image(url: object) -> str:
    if not isinstance(url, str):
        raise invalid("An image_url part needs a url.")
    if not url.lower().startswith("data:"):
        return "an image behind a link, which this demo does not fetch"
    try:
        return str(read_picture(data_url_bytes(url)))
    except ValueError as error:
        raise invalid(f"The image cannot be read: {error}.") from error
