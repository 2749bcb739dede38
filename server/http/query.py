"""Read query parameters; the API and the pages share these functions, so both accept the same."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from workers.errors import InvalidRequest

LARGEST = 2**62
"""More than any row number; SQLite's integers end at 2**63 - 1."""
LONGEST_NUMBER = len(str(LARGEST))


def refuse_unknown(given: Iterable[str], known: Sequence[str]) -> None:
    """Raise InvalidRequest for an unknown parameter: mostly a misspelt one."""
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise InvalidRequest(
            f"There is no parameter {unknown[0]!r}; there are {', '.join(known)}.",
            param=unknown[0],
        )


def read_number(name: str, text: str | None, most: int) -> int | None:
    """Return a number from 1 to `most`, or None if the parameter is absent. Raises InvalidRequest.

    The length is checked first: int() raises ValueError for more than 4300 digits (CPython's
    `sys.int_info.default_max_str_digits`), leading zeros included.
    """
    if text is None:
        return None
    plain = text.isascii() and text.isdigit() and len(text) <= LONGEST_NUMBER
    if not plain or not 1 <= int(text) <= most:
        raise InvalidRequest(f"'{name}' must be a number from 1 to {most}.", param=name)
    return int(text)
