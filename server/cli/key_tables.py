"""Print keys and invitations as tables on the terminal, or as JSON for programs."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from server.store.key import current_status
from workers.money import exactly

KeyShape = dict[str, Any]
COLUMNS = ("ID", "NAME", "KEY", "STATUS", "EXPIRES", "LAST USED")
WIDE_COLUMNS = (*COLUMNS, "LIMITS", "MODELS", "NOTE")
PERIODS = {"total": "in total"}


async def print_keys(
    pages: AsyncIterator[list[KeyShape]], *, wide: bool = False, as_json: bool = False
) -> None:
    """Print keys as they come; the first page decides how wide the columns are.

    As JSON they are a list, with each key as the API shows it on a line.
    """
    if as_json:
        await _print_list(pages)
        return
    cells: Callable[[KeyShape], tuple[str, ...]] = _wide_row if wide else _row
    widths: list[int] = []
    async for keys in pages:
        rows = [cells(key) for key in keys]
        if not widths:
            rows.insert(0, WIDE_COLUMNS if wide else COLUMNS)
            widths = _widths(rows)
        _print_rows(rows, widths)
    if not widths:
        print("There are no keys. Create one with `roxy keys create NAME`.")


async def _print_list(pages: AsyncIterator[list[KeyShape]]) -> None:
    """Print keys as one JSON list, as they come."""
    between = "["
    async for keys in pages:
        for key in keys:
            print(between, json.dumps(key, ensure_ascii=False), sep="\n", end="")
            between = ","
    print("[]" if between == "[" else "\n]")


def print_key(key: KeyShape, *, as_json: bool = False) -> None:
    """Print everything about one key but its secret."""
    if as_json:
        print(json.dumps(key, ensure_ascii=False, indent=2))
        return
    lines = {
        "id": key["id"],
        "name": key["name"],
        "note": " ".join(key["note"].split()) or "-",
        "key": key["redacted"],
        "status": current_status(key["status"], key["expires_at"], time.time()),
        "created": minute_of(key["created_at"], "-"),
        "expires": minute_of(key["expires_at"], "never"),
        "last used": minute_of(key["last_used_at"], "never"),
        "limits": limits_of(key),
        "models": _models(key),
        "weight": str(key["weight"]),
    }
    _print_rows(list(lines.items()), (max(map(len, lines)), 0))


def print_invitations(invitations: Sequence[dict[str, Any]]) -> None:
    """Print invitations without their links."""
    rows = [
        (
            one["id"],
            one["key_id"],
            one["key_name"] or "-",
            "key" if one["gives_key"] else "sign-in",
            one["status"],
            minute_of(one["expires_at"], "-"),
        )
        for one in invitations
    ]
    if not rows:
        print("There are no invitations. Make one with `roxy keys invite ID`.")
        return
    rows.insert(0, ("ID", "KEY", "NAME", "GIVES", "STATUS", "EXPIRES"))
    _print_rows(rows, _widths(rows))


def limits_of(key: KeyShape) -> str:
    """Return the limits of a key in words."""
    limits = key["limits"]
    counts = {
        "requests_per_minute": "requests/min",
        "tokens_per_minute": "tokens/min",
        "concurrent_requests": "concurrent",
    }
    words = [f"{limits[name]:,} {unit}" for name, unit in counts.items() if limits.get(name)]
    if budget := limits.get("budget_microusd"):
        period = limits.get("budget_period") or "month"
        words.append(f"{exactly(budget)} {PERIODS.get(period, f'a {period}')}")
    return ", ".join(words) or "none"


def minute_of(instant: int | None, none: str) -> str:
    """Return Unix seconds as a UTC minute, or `none` for None."""
    if instant is None:
        return none
    return time.strftime("%Y-%m-%d %H:%MZ", time.gmtime(instant))


def _row(key: KeyShape) -> tuple[str, ...]:
    status = current_status(key["status"], key["expires_at"], time.time())
    times = (minute_of(key["expires_at"], "-"), minute_of(key["last_used_at"], "never"))
    return key["id"], key["name"], key["redacted"], status, *times


def _wide_row(key: KeyShape) -> tuple[str, ...]:
    return *_row(key), limits_of(key), _models(key), " ".join(key["note"].split()) or "-"


def _models(key: KeyShape) -> str:
    return "all" if key["models"] is None else ", ".join(key["models"])


def _widths(rows: Sequence[tuple[str, ...]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*rows, strict=True)]


def _print_rows(rows: Sequence[tuple[str, ...]], widths: Sequence[int]) -> None:
    for row in rows:
        cells = zip(row, widths, strict=True)
        print("  ".join(cell.ljust(width) for cell, width in cells).rstrip())
