"""What upstreams answer when they refuse, word for word, and what the client must get.

Collected from public bug reports of gateways, agents and SDKs; ids of organisations, projects and
accounts are made up. The rows are data, one JSON object a line, in `upstream_refusals.jsonl`; those
whose bytes are no text are here. `tests/providers/test_refusal_table.py` maps every row, and
`tests/api/test_refusals_at_the_door.py` sends them through the gateway.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workers.errors import OwnFault

ROWS = Path(__file__).with_suffix(".jsonl")


@dataclass(frozen=True)
class RefusalRow:
    """One refusal: what the upstream sends, and what becomes of it.

    `says` must be in the client's message, none of `never` in any part of the answer. `wait_s` is
    the wait that is passed on; None: none.
    """

    name: str
    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    becomes: int = 400
    code: str | None = None
    retryable: bool = False
    own_fault: OwnFault = ""
    should_retry: bool | None = None
    wait_s: float | None = None
    says: str = ""
    never: tuple[str, ...] = ()


def _read_rows() -> Iterator[RefusalRow]:
    for line in ROWS.read_text(encoding="utf-8").splitlines():
        row: dict[str, Any] = json.loads(line)
        body = row.pop("body")
        text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)
        never = tuple(row.pop("never", ()))
        yield RefusalRow(body=text.encode(), never=never, **row)


_CONTEXT = b'{"error":{"message":"maximum context length is 8 tokens","type":"x"}}'
_GZIP = {"content-encoding": "gzip"}
_DEFLATE = {"content-encoding": "deflate"}
_CUT = _CONTEXT.replace(b'"type"', b'"input": "' + b"x" * 70_000)[:65_536]


def _too_long(name: str, body: bytes, headers: Mapping[str, str]) -> RefusalRow:
    return RefusalRow(
        name,
        400,
        body,
        headers,
        code="context_length_exceeded",
        should_retry=False,
        says="maximum context length is 8 tokens",
    )


REFUSALS: tuple[RefusalRow, ...] = (
    *_read_rows(),
    _too_long("gzip", gzip.compress(_CONTEXT), _GZIP),
    _too_long("gzip that no header announces", gzip.compress(_CONTEXT), {}),
    _too_long("gzip that was cut", gzip.compress(_CONTEXT + b" " * 9000)[:-9], _GZIP),
    _too_long("deflate", zlib.compress(_CONTEXT), _DEFLATE),
    _too_long("raw deflate", zlib.compress(_CONTEXT, wbits=-15), _DEFLATE),
    _too_long("JSON that was cut", _CUT, {}),
    RefusalRow(
        "brotli",
        429,
        b"\x0b\x02\x80\x03",
        {"content-encoding": "br", "retry-after": "4"},
        429,
        "rate_limit_exceeded",
        retryable=True,
        wait_s=4.0,
    ),
    RefusalRow(
        "broken gzip", 400, b"\x1f\x8b\x08broken", should_retry=False, says="rejected the request"
    ),
    RefusalRow("teapot", 418, b"\x00\xff", {}, 502, "upstream_error", retryable=True),
)
