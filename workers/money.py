"""Read and write money: integer micro-dollars inside, dollars for people and in files.

Each way of writing has its place: `as_typed` in forms, `in_full` where a limit is stated or
refused, `exactly` for one amount, `rounded` in lists of many.
"""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Decimal

from workers.units import MILLION

TYPED = re.compile(r"\$?\s*([0-9]{1,10})(?:\.([0-9]{1,6}))?", re.ASCII)


def to_microusd(dollars: float) -> int:
    """Convert dollars to micro-dollars exactly as written, fractions rounded up.

    The way through text matters: 1.1 * 1,000,000 is 1,100,000.0000000002 as a float.
    """
    return int((Decimal(str(dollars)) * MILLION).to_integral_value(ROUND_CEILING))


def to_dollars(microusd: int) -> float:
    """Convert micro-dollars to dollars, for JSON."""
    return microusd / MILLION


def read_dollars(text: str) -> int | None:
    """Read dollars that a person typed ("5", "$0.50") as micro-dollars, or None for other text."""
    found = TYPED.fullmatch(text)
    return int(found[1]) * MILLION + int((found[2] or "").ljust(6, "0")) if found else None


def as_typed(microusd: int) -> str:
    """Return an amount as a person would type it, exact: 5, 0.50, 0.000001."""
    whole, micro = divmod(microusd, MILLION)
    return f"{whole}.{_cents(micro)}" if micro else str(whole)


def in_full(microusd: int) -> str:
    """Return an exact amount with at least its cents: $5.00, $0.000011, $1,200.00."""
    whole, micro = divmod(microusd, MILLION)
    return f"${whole:,}.{_cents(micro)}"


def exactly(microusd: int) -> str:
    """Return an exact amount without trailing zeros: $5, $0.5, $0.000042."""
    figure = f"{microusd // MILLION:,}.{microusd % MILLION:06}".rstrip("0")
    return "$" + figure.removesuffix(".")


def rounded(microusd: int) -> str:
    """Return an amount to four places below a dollar, else to cents: $0.0042, $1,204.50."""
    if microusd == 0:
        return "$0"
    if microusd < 100:
        return "<$0.0001"
    return f"${microusd / MILLION:.4f}" if microusd < MILLION else f"${microusd / MILLION:,.2f}"


def _cents(micro: int) -> str:
    """Return the digits after the point, at least two."""
    return f"{micro:06d}".rstrip("0").ljust(2, "0")
