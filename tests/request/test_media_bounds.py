"""A medium is bounded by what an upstream may bill for it, in whatever part it stands.

The shapes are those of OpenAI's two APIs, Anthropic, Gemini, Mistral, Qwen and vLLM.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from workers.request.chat_request import ADDED_TOKENS, ChatRequest, parse_chat
from workers.request.content_parts import MAX_FILE_TOKENS, MAX_PICTURE_TOKENS

LINK = "https://host.example/a"
DATA = "QUJD" * 5000
PICTURE = "data:image/png;base64," + DATA
PDF = "data:application/pdf;base64,QUJD"

FILES: tuple[dict[str, Any], ...] = (
    {"type": "file", "file": {"file_id": "file-1"}},
    {"type": "file", "file_id": "file-1"},
    {"type": "file", "file_url": LINK},
    {"type": "file", "fileUri": LINK},
    {"type": "input_file", "file_url": LINK},
    {"type": "input_file", "file_id": "file-1"},
    {"type": "input_file", "file_data": PDF},
    {"type": "document_url", "document_url": LINK},
    {"type": "document_url", "document_url": {"url": LINK}},
    {"type": "document_url", "documentUrl": LINK},
    {"type": "document", "source": {"type": "url", "url": LINK}},
    {"type": "document", "source": {"type": "base64", "data": DATA}},
    {"type": "document", "source": {"type": "file", "file_id": "file-1"}},
    {"type": "document", "document": {"data": "QUJD"}},
    {"type": "document", "source": {"type": "content", "content": [{"type": "document",
                                                                   "source": {"url": LINK}}]}},
    {"type": "tool_result", "content": [{"type": "document", "source": {"url": LINK}}]},
    {"type": "tool_result", "content": {"type": "video_url", "video_url": {"url": LINK}}},
    {"type": "video", "video": LINK},
    {"type": "video", "video": [LINK]},
    {"type": "video_url", "video_url": LINK},
    {"type": "input_video", "input_video": {"url": LINK}},
    {"type": "video", "video": {"image": LINK}},
    {"type": "audio", "audio": LINK},
    {"type": "audio_url", "audio_url": {"url": LINK}},
    {"type": "input_audio", "input_audio": {"data": LINK, "format": "wav"}},
    {"type": "input_audio", "input_audio": {"url": LINK}},
    {"type": "audio", "audio": {"file_id": "file-1"}},
    {"type": "image_url", "image_url": {"url": PDF}},
    {"type": "image", "image": PDF},
    {"type": "media", "inlineData": {"mimeType": "video/mp4", "data": DATA}},
    {"type": "media", "media": LINK},
    {"type": "unknown", "data": DATA},
    {"type": "document_url", "document_url": LINK, "image_url": {"url": LINK}},
)  # fmt: skip
PICTURES: tuple[dict[str, Any], ...] = (
    {"type": "image_url", "image_url": {"url": LINK}},
    {"type": "image_url", "image_url": PICTURE},
    {"type": "image", "imageUrl": LINK},
    {"type": "input_image", "image_url": LINK},
    {"type": "input_image", "file_id": "file-1"},
    {"type": "image", "image": LINK},
    {"type": "image", "url": PICTURE},
    {"type": "image", "source": {"type": "url", "url": LINK}},
    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": DATA}},
    {"type": "image", "source": {"type": "file", "file_id": "file-1"}},
    {"type": "image_file", "image_file": {"file_id": "file-1"}},
    {"type": "tool_result", "content": [{"type": "image", "source": {"data": DATA}}]},
    {"type": "tool_result", "content": [{"type": "image_url", "image_url": {"url": LINK}}]},
)
TEXTS: tuple[dict[str, Any], ...] = (
    {"type": "text", "text": DATA, "cache_control": {"type": "ephemeral"}},
    {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": DATA}},
    {"type": "document", "source": {"type": "content",
                                    "content": [{"type": "text", "text": DATA}]}},
    {"type": "document", "source": {"type": "content", "content": DATA}},
    {"type": "tool_result", "tool_use_id": "a", "content": DATA},
    {"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text", "text": DATA}]},
    {"type": "thinking", "thinking": DATA, "signature": DATA},
    {"type": "redacted_thinking", "data": DATA},
    {"type": "search_result", "source": LINK, "content": [{"type": "text", "text": DATA}]},
    {"type": "file", "name": DATA},
    {"type": "image", "text": DATA, "image": ""},
    {"type": "audio", "audio": {"data": DATA}},
    {"type": "input_audio", "input_audio": {"data": DATA, "format": "wav"}},
)  # fmt: skip


def parse(*parts: dict[str, Any]) -> tuple[ChatRequest, int]:
    """Parse a request with parts; return it, and its size."""
    content = [{"type": "text", "text": "see"}, *parts]
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": content}]}).encode()
    return parse_chat(body), len(body)


@pytest.mark.parametrize("part", FILES, ids=str)
def test_a_film_a_file_or_a_linked_recording_may_fill_the_context_window(part: Any) -> None:
    request, _ = parse(part)
    assert request.prompt_bound >= MAX_FILE_TOKENS


@pytest.mark.parametrize("part", PICTURES, ids=str)
@pytest.mark.parametrize("count", [1, 3])
def test_each_picture_has_its_ceiling(part: Any, count: int) -> None:
    request, _ = parse(*[part] * count)
    beside = request.prompt_bound - ADDED_TOKENS - count * MAX_PICTURE_TOKENS
    assert 0 < beside < 200 + 150 * count
    assert request.pictures == count
    assert 1000 * count < request.prompt_estimate < 1000 * count + 50 + 40 * count


@pytest.mark.parametrize("part", TEXTS, ids=range(len(TEXTS)))
def test_text_and_recordings_are_a_token_a_byte_at_most(part: Any) -> None:
    request, size = parse(part)
    assert request.prompt_bound <= size + ADDED_TOKENS
