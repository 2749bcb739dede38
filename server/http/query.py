"""Read query parameters; the API and the pages share these functions, so both accept the same."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from workers.errors import InvalidRequest

LARGEST = 2**62
"""More than any row number; SQLite's integers end at 2**63 - 1."""


def refuse_unknown(given: Iterable[str], known: Sequence[str]) -> None:
    """Raise InvalidRequest for an unknown parameter: mostly a misspelt one."""
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise InvalidRequest(
            f"There is no parameter {unknown[0]!r}; there are {', '.join(known)}.",
            param=unknown[0],
        )


def read_number(name: str, text: str, most: int) -> int | None:
    """Return a number from 1 to `most`, or None for an empty text. Raises InvalidRequest."""
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:20]) <= most):
        raise InvalidRequest(f"'{name}' must be a number from 1 to {most}.", param=name)
    return int(text)
