"""Types of command-line options: each reads its text, or says what the option takes."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable

MAX_NUMBER = 1_000_000
"""Largest number of dollars or days: larger ones are typing mistakes."""
MAX_COUNT = 1_000_000_000_000


def whole_number(least: int, most: int, words: str = "") -> Callable[[str], int]:
    """Return the type of an option that takes a whole number from `least` to `most`."""
    rule = words or f"must be a whole number from {least} to {most}"

    def read(text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,20}", text) or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(rule)
        return int(text)

    return read


requests_number = whole_number(0, MAX_COUNT, "must be a whole number, 0 or more (0: no limit)")


def dollars(text: str) -> float:
    """Read an amount of money, of at least a micro-dollar."""
    amount = positive(text)
    if amount < 0.000001:  # money is counted in micro-dollars, and a part of one is rounded up
        raise argparse.ArgumentTypeError("must be at least 0.000001, one micro-dollar")
    return amount


def positive(text: str) -> float:
    """Read a number greater than 0, up to MAX_NUMBER."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and 0 < number <= MAX_NUMBER):
        raise argparse.ArgumentTypeError(
            f"must be a number greater than 0 and at most {MAX_NUMBER}"
        )
    return number


def valid_text(argument: str) -> str:
    """Read text that is valid UTF-8."""
    try:
        argument.encode()
    # Python decodes invalid bytes in arguments to lone surrogates (PEP 383).
    except UnicodeEncodeError as error:
        raise argparse.ArgumentTypeError("must be valid UTF-8") from error
    return argument


def model_ids(text: str) -> list[str]:
    """Read model ids, separated by commas."""
    ids = [part.strip() for part in valid_text(text).split(",") if part.strip()]
    if not ids:
        raise argparse.ArgumentTypeError("needs at least one model id")
    return ids
