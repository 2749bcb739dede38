"""Read a chat completion request the way the demo upstream needs it."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta, Struct

from server.demo.images import data_url_bytes, read_picture

COMMAND = re.compile(r"\s*demo:\s*([a-z]+)(?:\s+(\d{3}))?", re.IGNORECASE)
SHOWN = 200


class Refusal(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, message: str, kind: str, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.body = msgspec.json.encode(
            {"error": {"message": message, "type": kind, "param": None, "code": code}}
        )


class Message(Struct):
    """One message; content parts stay as they came."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[dict[str, Any]] | None = None

    @property
    def text(self) -> str:
        """Join what was said in words."""
        if not isinstance(self.content, list):
            return self.content or ""
        return "\n".join(str(part.get("text") or "") for part in self.content)


class DemoFunction(Struct):
    """A tool's name and parameters."""

    name: Annotated[str, Meta(min_length=1, max_length=200)]
    parameters: dict[str, Any] | None = None


class Tool(Struct):
    """A tool; only functions can be called."""

    function: DemoFunction


class DemoStreamOptions(Struct):
    """What else a stream should carry."""

    include_usage: bool = False


class JsonSchema(Struct):
    """A named schema of the answer."""

    schema: dict[str, Any] = {}


class ResponseFormat(Struct):
    """How the answer should look."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    json_schema: JsonSchema | None = None


class Command(NamedTuple):
    """What a prompt such as `demo: error 429` asks for; the name is empty in ordinary prompts."""

    name: str = ""
    status: int = 0


class DemoRequest(Struct):
    """The fields the demo reacts to; all others are accepted and ignored."""

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
        """Give the longest answer that was asked for, in tokens."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def stops(self) -> list[str]:
        """Give the stop sequences."""
        given = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return [each for each in given if each]

    @property
    def include_usage(self) -> bool:
        """Whether the stream should end with a usage chunk."""
        return self.stream_options is not None and self.stream_options.include_usage

    @property
    def said(self) -> str:
        """Give the last user message's words, in one line."""
        users = [message for message in self.messages if message.role == "user"]
        return " ".join(users[-1].text.split()) if users else ""

    @property
    def shown(self) -> str:
        """Give the same, short enough to be quoted."""
        said = self.said or "(nothing in words)"
        return said if len(said) <= SHOWN else said[: SHOWN - 1] + "…"

    @property
    def turn(self) -> int:
        """Count the user's messages."""
        return sum(message.role == "user" for message in self.messages)

    @property
    def command(self) -> Command:
        """Read a command for trying failures, when the last user message is one."""
        found = COMMAND.match(self.said)
        return Command(found[1].lower(), int(found[2] or 0)) if found else Command()

    @property
    def tool_results(self) -> list[str]:
        """Give the tool results that end the conversation; empty when something else does."""
        results: list[str] = []
        for message in reversed(self.messages):
            if message.role not in ("tool", "function"):
                break
            results.insert(0, " ".join(message.text.split())[:SHOWN])
        return results

    def attachments(self) -> list[str]:
        """Describe what the last user message carries beside words; raises Refusal."""
        users = [message for message in self.messages if message.role == "user"]
        content = users[-1].content if users else None
        parts = content if isinstance(content, list) else []
        return [_describe(part) for part in parts if part.get("type") != "text"]


DECODER = msgspec.json.Decoder(DemoRequest)


def read_request(body: bytes) -> DemoRequest:
    """Decode a request; raises Refusal with 400 in OpenAI's shape."""
    try:
        return DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise invalid(f"The body is not a chat completion request: {error}") from error


def invalid(message: str) -> Refusal:
    """Make a 400."""
    return Refusal(400, message, "invalid_request_error")


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
