"""Write cells of CSV files: text that no spreadsheet runs, and amounts that it can add up."""

from __future__ import annotations

from workers.units import MILLION

FORMULA_START = (*"=+-@\t\r\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""Spreadsheets run cells that begin so as formulas (OWASP, "CSV Injection")."""


def harmless(text: str) -> str:
    """Return a text that no spreadsheet runs as a formula: an apostrophe in front stops it."""
    return f"'{text}" if text.startswith(FORMULA_START) else text


def dollars(microusd: int) -> str:
    """Return an amount in dollars, exact and without a sign, so that it can be added up."""
    return f"{microusd // MILLION}.{microusd % MILLION:06}"
