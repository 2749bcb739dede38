"""A hand-made client of the demo upstream, for what the official client hides."""

from __future__ import annotations

import json
from typing import Any

import httpx


def asking(text: Any, **fields: Any) -> dict[str, Any]:
    """Make a request of one user message."""
    return {"model": "m", "messages": [{"role": "user", "content": text}], **fields}


async def ask(http: httpx.AsyncClient, text: Any, **fields: Any) -> dict[str, Any]:
    """Ask for a whole answer."""
    answer = await http.post("/chat/completions", json=asking(text, **fields))
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def chunks_of(
    http: httpx.AsyncClient, text: Any, **fields: Any
) -> tuple[list[dict[str, Any]], bool]:
    """Read a stream by hand; gives the chunks and whether `[DONE]` ended it."""
    chunks: list[dict[str, Any]] = []
    done = False
    body = asking(text, stream=True, **fields)
    async with http.stream("POST", "/chat/completions", json=body) as answer:
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        raw = b"".join([part async for part in answer.aiter_bytes()])
    assert raw.endswith(b"\n\n")
    for event in raw.removesuffix(b"\n\n").split(b"\n\n"):
        assert event.startswith(b"data: ")
        assert not done
        if event == b"data: [DONE]":
            done = True
        else:
            chunks.append(json.loads(event[6:]))
    return chunks, done


def content_of(chunks: list[dict[str, Any]], field: str = "content", index: int = 0) -> str:
    """Join what one choice of a stream says."""
    return "".join(
        choice["delta"].get(field) or ""
        for chunk in chunks
        for choice in chunk["choices"]
        if choice["index"] == index
    )
