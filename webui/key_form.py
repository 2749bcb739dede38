"""The form of a key: what its fields show, and the body for the keys API that they make.

A form sends text. Here it becomes numbers, micro-dollars and instants where it reads as such, and
stays text where it does not: what a key may be is for `server/key_requests.py` alone to say, and
its refusals come back as words beside the fields.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec import Struct

from server.keys import Key
from server.limits import PERIODS, BudgetPeriod
from workers.errors import InvalidRequest

MODEL = "model:"
"""A ticked model comes as a field of its own, `model:ID`; `models` says that they were shown."""
PER: dict[BudgetPeriod, str] = {
    "day": "a day",
    "week": "a week",
    "month": "a month",
    "total": "in total",
}
COUNTS = ("requests_per_minute", "tokens_per_minute", "concurrent_requests")
SHOWN_NEW = ("name", *COUNTS, "budget", "budget_period", "expires", "models")
SHOWN = (*SHOWN_NEW, "weight")
"""The fields that the form has; a problem with any other stands above them."""
FIELD_OF = {"budget_microusd": "budget", "expires_at": "expires"}
TRIAL_DAYS = 7
LONGEST_NUMBER = 16
DOLLARS = re.compile(r"\$?\s*([0-9]{1,10})(?:\.([0-9]{1,6}))?", re.ASCII)
WORDS = {
    **dict.fromkeys(COUNTS, "A whole number from 1 on, or nothing for no limit."),
    "weight": "A whole number from 1 to 100.",
    "budget": "Dollars above zero, like 5 or 0.50, or nothing for no budget.",
    "budget_period": "A day, a week, a month or in total.",
    "expires": "A day that is not over yet, like 2027-01-31, or nothing for never.",
    "models": "One of the chosen models is not in the catalog: untick it.",
    "grace_s": "One of the four times.",
}
"""What to do about a field that was refused; where nothing stands, the refusal's own words."""

Parsed = TypeVar("Parsed")


class Field(NamedTuple):
    """A field as it is shown: `mode` is the keyboard that a phone offers."""

    name: str
    label: str
    hint: str
    mode: str = "numeric"
    max_length: int = 30
    placeholder: str = ""
    required: bool = False


NAME = Field(
    "name", "Name", "Who or what uses it, for you to know it by.", "text", 200, required=True
)
LIMITS = (
    Field("requests_per_minute", "Requests per minute", "Empty: no limit."),
    Field("tokens_per_minute", "Tokens per minute", "In and out. Empty: no limit."),
    Field("concurrent_requests", "Requests at once", "Empty: no limit."),
)
BUDGET = Field("budget", "Budget in dollars", "Empty: no budget.", "decimal")
EXPIRES = Field(
    "expires", "Expires", "At the end of this day, UTC. Empty: never.", "text", 20, "YYYY-MM-DD"
)
WEIGHT = Field("weight", "Weight", "Turns in the queue beside other keys, 1 to 100.")
GRACE = (
    (0, "at once"),
    (3_600, "after an hour"),
    (86_400, "after 24 hours"),
    (604_800, "after 7 days"),
)
"""When the old secret ends, in seconds after a rotation."""


class RefusedForm(InvalidRequest):
    """What was typed is refused; `problems` has the words for each field."""

    def __init__(self, problems: Mapping[str, str]) -> None:
        super().__init__("; ".join(problems.values()))
        self.problems = problems


class KeyForm(Struct, frozen=True):
    """The texts of the fields by their names, and the ids of the ticked models."""

    texts: Mapping[str, str]
    models: tuple[str, ...] = ()

    @classmethod
    def sent(cls, fields: Mapping[str, str]) -> KeyForm:
        """Take what a page has sent."""
        ticked = [name.removeprefix(MODEL) for name in fields if name.startswith(MODEL)]
        return cls(fields, tuple(ticked))

    @classmethod
    def of(cls, key: Key) -> KeyForm:
        """Show a key as it is."""
        limits = key.limits
        texts = {name: written(getattr(limits, name)) for name in COUNTS}
        texts |= {
            "name": key.name,
            "budget": dollars_typed(limits.budget_microusd),
            "budget_period": limits.budget_period,
            "expires": day_of(key.expires_at),
            "weight": str(key.weight),
        }
        return cls(texts, key.models or ())

    def text(self, name: str) -> str:
        """Give what stands in a field."""
        return self.texts.get(name, "")

    def body(self, key: Key | None = None) -> dict[str, Any]:
        """Give the body for the API: of a new key, or of the changes to `key`.

        A field that was not sent is left away. So are the models and the expiry of `key` that were
        left as they are: they may name what has gone from the catalog, and lie in the past.
        """
        texts = self.texts
        body: dict[str, Any] = {"name": self.text("name")}
        if "weight" in texts:
            body["weight"] = number(texts["weight"])
        if "expires" in texts and (key is None or texts["expires"] != day_of(key.expires_at)):
            body["expires_at"] = end_of_day(texts["expires"])
        if "models" in texts and (key is None or set(self.models) != set(key.models or ())):
            body["models"] = list(self.models) or None
        limits: dict[str, Any] = {name: number(texts[name]) for name in COUNTS if name in texts}
        if "budget" in texts:
            limits["budget_microusd"] = microusd(texts["budget"])
        if "budget_period" in texts:
            limits["budget_period"] = texts["budget_period"]
        return body | {"limits": limits}


def presets(today: date) -> tuple[tuple[str, str, dict[str, str]], ...]:
    """Give what the three kinds of keys begin with: name, for whom, and their fields."""
    trial_ends = (today + timedelta(days=TRIAL_DAYS)).isoformat()
    return (
        ("personal", "one person", _preset("30", "", "4", "20", "month", "")),
        ("app", "a program in use", _preset("300", "500000", "20", "100", "month", "")),
        ("trial", "a week, one dollar", _preset("5", "20000", "1", "1", "total", trial_ends)),
    )


def _preset(
    requests: str, tokens: str, at_once: str, budget: str, period: BudgetPeriod, expires: str
) -> dict[str, str]:
    return {
        "requests_per_minute": requests,
        "tokens_per_minute": tokens,
        "concurrent_requests": at_once,
        "budget": budget,
        "budget_period": period,
        "expires": expires,
    }


def checked(body: dict[str, Any], parse: Callable[[bytes], Parsed]) -> Parsed:
    """Have a body read by the API's own rules. Raises RefusedForm with every field refused."""
    problems: dict[str, str] = {}
    while True:
        try:
            parsed = parse(msgspec.json.encode(body))
        except InvalidRequest as error:
            param = (error.param or "").removeprefix("limits.").partition("[")[0]
            field = FIELD_OF.get(param, param)
            if field in problems:
                break
            problems[field] = WORDS.get(field) or _in_place(error.message, param)
            body = _without(body, param)
        else:
            if not problems:
                return parsed
            break
    raise RefusedForm(problems)


def _in_place(message: str, param: str) -> str:
    """Give a refusal as it is said beside its field, without the field's name."""
    said = message.removeprefix(f"'{param}' ")
    return said[:1].upper() + said[1:]


def _without(body: dict[str, Any], param: str) -> dict[str, Any]:
    """Give a body in which one refused field is in order, for the others to be looked at."""
    rest = {name: value for name, value in body.items() if name != param}
    if param == "name":
        rest["name"] = "-"
    if "limits" in rest:
        rest["limits"] = {name: v for name, v in rest["limits"].items() if name != param}
    return rest


def chosen_period(text: str) -> str:
    """Give the period that a form shows as chosen."""
    return text if text in PERIODS else "month"


def number(text: str) -> int | str | None:
    """Read a whole number; nothing is None, and anything else stays as it is."""
    text = text.strip()
    if re.fullmatch(rf"[0-9]{{1,{LONGEST_NUMBER}}}", text):
        return int(text)
    return text or None


def microusd(text: str) -> int | str | None:
    """Read dollars as micro-dollars; nothing is None, and anything else stays as it is."""
    text = text.strip()
    found = DOLLARS.fullmatch(text)
    if found:
        return int(found[1]) * 1_000_000 + int((found[2] or "").ljust(6, "0"))
    return text or None


def end_of_day(text: str) -> int | str | None:
    """Read a day as its last second, UTC; nothing is None, and anything else stays as it is."""
    text = text.strip()
    if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        try:
            day = date.fromisoformat(text)
        except ValueError:
            return text
        return int(datetime.combine(day, time(23, 59, 59), UTC).timestamp())
    return text or None


def day_of(instant: int | None) -> str:
    """Write the UTC day of an instant; "": none."""
    return "" if instant is None else datetime.fromtimestamp(instant, UTC).date().isoformat()


def written(value: int | None) -> str:
    """Write a number as it is typed."""
    return "" if value is None else str(value)


def dollars_typed(value: int | None) -> str:
    """Write micro-dollars as dollars are typed, exactly: 5, 0.50, 0.000001."""
    if value is None:
        return ""
    whole, micro = divmod(value, 1_000_000)
    return f"{whole}.{f'{micro:06d}'.rstrip('0').ljust(2, '0')}" if micro else str(whole)
