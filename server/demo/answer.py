"""Compose the answers of the demo upstream. No I/O and no clock: a request in, an answer out.

The text is split into pieces of up to six letters, and each piece counts as one token, so that the
reported usage is the number of pieces that were sent.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct

from server.demo import script
from server.demo.request import DemoRequest, Tool, invalid
from server.demo.schema_sampler import Sampler

PIECE = re.compile(r"\s*(?:\w{1,6}|[^\w\s])|\s+")
QUESTION = re.compile(r"<question>(.*?)</question>")
WORD = re.compile(r"\w[\w'\u2019-]*")
TOKENS_PER_MESSAGE = 4
TOKENS_PER_ATTACHMENT = 258
MANY = re.compile(r"\b(parallel|both|each|every|all|tools)\b", re.IGNORECASE)


class DemoToolCall(Struct):
    """A tool call; its arguments are the pieces of a JSON text."""

    id: str
    name: str
    arguments: list[str]


class DemoChoice(Struct):
    """One choice of an answer: reasoning, then content, then tool calls."""

    reasoning: list[str]
    content: list[str]
    tool_calls: list[DemoToolCall]
    finish_reason: str

    @property
    def tokens(self) -> int:
        """The number of generated tokens."""
        arguments = sum(len(call.arguments) for call in self.tool_calls)
        return len(self.reasoning) + len(self.content) + arguments


class DemoAnswer(Struct):
    """All choices, and the tokens of the prompt."""

    choices: list[DemoChoice]
    prompt_tokens: int

    def usage(self) -> dict[str, Any]:
        """Return OpenAI's usage object."""
        completion = sum(choice.tokens for choice in self.choices)
        reasoning = sum(len(choice.reasoning) for choice in self.choices)
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": completion,
            "total_tokens": self.prompt_tokens + completion,
            "prompt_tokens_details": {"cached_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": reasoning},
        }


def pieces(text: str) -> list[str]:
    """Split text into its tokens; joined they are the text again."""
    return PIECE.findall(text)


def compose(request: DemoRequest) -> DemoAnswer:
    """Return the answer to a request. Raises DemoRefusal when the request is invalid."""
    attachments = request.attachments()
    choices = [_choice(request, attachments, number) for number in range(request.n or 1)]
    return DemoAnswer(choices, _prompt_tokens(request, len(attachments)))


def _choice(request: DemoRequest, attachments: list[str], number: int) -> DemoChoice:
    calls = [] if request.tool_results else _tool_calls(request)
    reasoning = content = ""
    if request.command.name == "think":
        reasoning = script.TOOL_THOUGHTS if calls else _thoughts(request)
    if not calls:
        content = _content(request, attachments)
        if number and not _wants_json(request):
            content = f"*Choice {number + 1} of {request.n}.*\n\n{content}"
    choice = DemoChoice(
        reasoning=pieces(reasoning),
        content=pieces(_until_stop(content, request.stops)),
        tool_calls=calls,
        finish_reason="tool_calls" if calls else "stop",
    )
    return _shortened(choice, request.limit)


def _thoughts(request: DemoRequest) -> str:
    return script.THOUGHTS.format(shown=request.shown)


def _content(request: DemoRequest, attachments: list[str]) -> str:
    if _wants_json(request):
        return _json_content(request)
    if request.messages[0].text.startswith(script.TITLE_WANTED):
        return _title(request)
    if results := request.tool_results:
        quoted = "\n".join(f"> {result}" for result in results)
        return script.TOOL_RESULT.format(results=quoted, shown=request.shown)
    if request.command.name == "help":
        return script.HELP.format(commands=script.commands_table())
    if request.command.name == "long":
        return script.long_answer()
    return (script.FIRST if request.turn <= 1 else script.LATER).format(
        shown=request.shown,
        model=request.model,
        extras=_extras(request, attachments),
        commands=script.commands_table(),
        turn=request.turn,
        messages=len(request.messages),
        words=len(request.said.split()),
    )


def _title(request: DemoRequest) -> str:
    """Return the first words of the question in a request for a title."""
    question = QUESTION.search(request.said)
    words = WORD.findall(question[1] if question is not None else request.said)
    return script.TITLE.format(words=" ".join(words[: script.TITLE_WORDS]) or "chat")


def _extras(request: DemoRequest, attachments: list[str]) -> str:
    """Return a line for each attachment and for the system prompt."""
    lines = [f"\nYou attached {attachment}." for attachment in attachments]
    system = [m.text for m in request.messages if m.role in ("system", "developer")]
    if system:
        lines.append(f"\nYour system prompt has {len(' '.join(system).split())} words.")
    return "".join(f"{line}\n" for line in lines)


def _wants_json(request: DemoRequest) -> bool:
    return request.response_format is not None and request.response_format.type != "text"


def _json_content(request: DemoRequest) -> str:
    wanted = request.response_format
    if wanted is not None and wanted.type == "json_schema":
        if wanted.json_schema is None:
            raise invalid("response_format of type json_schema needs a json_schema.")
        made = Sampler(wanted.json_schema.schema, request.said).value()
    else:
        made = {"demo": True, "model": None, "asked": request.shown, "items": ["one", "two"]}
    return msgspec.json.format(msgspec.json.encode(made)).decode()


def _tool_calls(request: DemoRequest) -> list[DemoToolCall]:
    """Return the calls that the request's tools and tool_choice ask for."""
    tools, choice = request.tools or [], request.tool_choice
    if not tools or choice == "none" or _wants_json(request):
        return []
    if isinstance(choice, dict):
        chosen = [tool for tool in tools if tool.function.name == _named(choice)]
        if not chosen:
            raise invalid("tool_choice names a function that is not in tools.")
    elif request.parallel_tool_calls is not False and _wants_many(request):
        chosen = tools[:4]
    else:
        chosen = tools[:1]
    return [_call(tool, request.said) for tool in chosen]


def _named(choice: dict[str, Any]) -> Any:
    function = choice.get("function")
    return function.get("name") if isinstance(function, dict) else None


def _wants_many(request: DemoRequest) -> bool:
    return request.parallel_tool_calls is True or MANY.search(request.said) is not None


def _call(tool: Tool, said: str) -> DemoToolCall:
    arguments = Sampler(tool.function.parameters or {"type": "object"}, said).value()
    text = msgspec.json.encode(arguments if isinstance(arguments, dict) else {}).decode()
    return DemoToolCall(f"call_demo{secrets.token_hex(8)}", tool.function.name, pieces(text))


def _until_stop(text: str, stops: list[str]) -> str:
    """Return the text before its first stop sequence."""
    places = [place for stop in stops if (place := text.find(stop)) >= 0]
    return text[: min(places)] if places else text


def _shortened(choice: DemoChoice, limit: int | None) -> DemoChoice:
    """Return the choice, cut at the token limit."""
    if limit is None or choice.tokens <= limit:
        return choice
    room = limit

    def fit(made: list[str]) -> list[str]:
        nonlocal room
        kept = made[:room]
        room -= len(kept)
        return kept

    reasoning, content = fit(choice.reasoning), fit(choice.content)
    calls = _fitting(choice.tool_calls, fit)
    return DemoChoice(reasoning, content, calls, "length")


def _fitting(
    calls: list[DemoToolCall], fit: Callable[[list[str]], list[str]]
) -> list[DemoToolCall]:
    kept = [DemoToolCall(call.id, call.name, fit(call.arguments)) for call in calls]
    return [call for call in kept if call.arguments]


def _prompt_tokens(request: DemoRequest, attachments: int) -> int:
    words = sum(len(pieces(message.text)) + TOKENS_PER_MESSAGE for message in request.messages)
    tools = len(pieces(msgspec.json.encode(request.tools).decode())) if request.tools else 0
    return words + tools + attachments * TOKENS_PER_ATTACHMENT
