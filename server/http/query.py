"""Read query parameters; the API and the pages share these functions, so both accept the same."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TypeVar

from server.store.rows import UsageMark
from workers.errors import InvalidRequest

MAX_DIGITS = 20
MARK = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,17})?)-([0-9]{1,18})", re.ASCII)
"""A time in Unix seconds and the number of a row, which fits into 63 bits."""

Choice = TypeVar("Choice", bound=str)


def refuse_unknown(given: Iterable[str], known: Sequence[str]) -> None:
    """Raise InvalidRequest for an unknown parameter: mostly a misspelt one."""
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise InvalidRequest(
            f"There is no parameter {unknown[0]!r}; there are {', '.join(known)}.",
            param=unknown[0],
        )


def read_choice(name: str, text: str, known: Sequence[Choice]) -> Choice:
    """Return the known value that a parameter has. Raises InvalidRequest for another one."""
    for choice in known:
        if choice == text:
            return choice
    words = ", ".join(choice for choice in known if choice)
    raise InvalidRequest(f"'{name}' must be one of {words}.", param=name)


def read_number(name: str, text: str | None, most: int) -> int | None:
    """Return a number from 1 to `most`, or None if the parameter is absent. Raises InvalidRequest.

    The length is checked first: int() raises ValueError for more than 4300 digits (CPython's
    `sys.int_info.default_max_str_digits`), leading zeros included.
    """
    if text is None:
        return None
    plain = text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS
    if not plain or not 1 <= int(text) <= most:
        raise InvalidRequest(f"'{name}' must be a number from 1 to {most}.", param=name)
    return int(text)


def read_mark(name: str, text: str | None) -> UsageMark | None:
    """Return the place where a page of usage rows ended, or None. Raises InvalidRequest."""
    if text is None:
        return None
    found = MARK.fullmatch(text)
    if found is None:
        raise InvalidRequest(f"'{name}' must be the '{name}' of the page before.", param=name)
    return UsageMark(float(found[1]), int(found[2]))


def show_mark(mark: UsageMark | None) -> str | None:
    """Return a place as `read_mark` reads it."""
    return None if mark is None else f"{mark.at!r}-{mark.number}"
