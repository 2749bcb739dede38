"""Express the messages of msgspec's ValidationError in words for people.

msgspec 0.21 writes "Expected `int` >= 1 - at `$.limits.tokens_per_minute`".
"""

from __future__ import annotations

import re

import msgspec

PLACE = re.compile(r"(?P<what>.*?)(?: - at (?:key in )?`\$(?P<path>[^`]*)`)?", re.DOTALL)
EXPECTED = re.compile(
    r"Expected `(?P<kinds>[^`]+)`(?P<bound> of length| )?(?: ?(?P<limit>[<>].+))?"
)
KINDS = {
    "str": "a string",
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "array": "a list",
    "object": "a table",
    "null": "null",
}
LIMITS = {">=": "at least", "<=": "at most", ">": "more than", "<": "less than"}


def split_fault(error: msgspec.ValidationError) -> tuple[str, str]:
    """Return what is wrong in msgspec's words, and the path of the value ("" for the whole)."""
    place = PLACE.fullmatch(str(error))
    if place is None:
        return str(error), ""
    return place["what"], (place["path"] or "").removeprefix(".")


def requirement(what: str) -> str:
    """Return the rule that a value breaks, to follow its name: "must be a whole number"."""
    if what.startswith("Invalid enum value"):
        return "must not be" + what.removeprefix("Invalid enum value")
    expected = EXPECTED.match(what)
    if expected is None:
        return f"is not valid ({what.replace('`', '')})"
    kinds = [KINDS.get(kind, kind) for kind in expected["kinds"].split(" | ")]
    words = f"must be {' or '.join(kinds)}"
    if expected["limit"]:
        sign, _, number = expected["limit"].partition(" ")
        length = "of length " if expected["bound"] == " of length" else ""
        words += f", {length}{LIMITS[sign]} {number.removesuffix('.0')}"
    return words
