"""The form of a key: the texts of its fields, and the body for the keys API that they make.

A form sends text. Text that reads as a number, an amount or a day becomes one here, and other text
stays as it is: `server/keys/key_requests.py` has the rules for every field, and its refusals are
shown beside the fields.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock_time
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec import Struct

from server.accounting.limits import PERIODS
from server.store.key import COUNT_LIMITS, NOTE_LENGTH, BudgetPeriod, Key
from workers.errors import InvalidRequest
from workers.money import as_typed, read_dollars
from workers.units import DAY_S, HOUR_S

MODEL = "model:"
"""A ticked model is a field of its own, `model:ID`. Browsers send nothing for boxes that are not
ticked, so the hidden field `models` says that the boxes were shown."""
PERIOD_WORDS: dict[BudgetPeriod, str] = {
    "day": "a day",
    "week": "a week",
    "month": "a month",
    "total": "in total",
}
SHOWN_NEW = ("name", "note", *COUNT_LIMITS, "budget", "budget_period", "expires", "models")
SHOWN = (*SHOWN_NEW, "weight")
"""The fields of the form; a problem with any other field is shown above them."""
FIELD_OF = {"budget_microusd": "budget", "expires_at": "expires"}
TRIAL_DAYS = 7
LONGEST_NUMBER = 16
WORDS = {
    **dict.fromkeys(COUNT_LIMITS, "Enter a whole number from 1, or leave empty for no limit."),
    "weight": "Enter a whole number from 1 to 100.",
    "budget": "Enter dollars above zero, like 5 or 0.50, or leave empty for no budget.",
    "budget_period": "Choose a day, a week, a month or in total.",
    "expires": "Enter today or a later day, like 2027-01-31, or leave empty for never.",
    "models": "One of the chosen models is not in the catalog: untick it.",
    "note": f"Enter up to {NOTE_LENGTH:,} characters.",
    "grace_s": "Choose one of the four times.",
}
"""What to do about a refused field; for others the message of the refusal is shown."""

Parsed = TypeVar("Parsed")


class Field(NamedTuple):
    """A field for display: `mode` is the keyboard that a phone offers."""

    name: str
    label: str
    hint: str
    mode: str = "numeric"
    max_length: int = 30
    placeholder: str = ""
    required: bool = False


NAME = Field(
    "name", "Name", "A label for you, such as a person or app.", "text", 200, required=True
)
LIMITS = (
    Field("requests_per_minute", "Requests per minute", "Empty: no limit."),
    Field("tokens_per_minute", "Tokens per minute", "In and out. Empty: no limit."),
    Field("concurrent_requests", "Concurrent requests", "Empty: no limit."),
)
BUDGET = Field("budget", "Budget in dollars", "Empty: no budget.", "decimal")
EXPIRES = Field(
    "expires", "Expires", "At the end of this day, UTC. Empty: never.", "text", 20, "YYYY-MM-DD"
)
WEIGHT = Field("weight", "Weight", "Queue priority relative to other keys, 1 to 100.")
GRACE = (
    (0, "at once"),
    (HOUR_S, "after an hour"),
    (DAY_S, "after 24 hours"),
    (7 * DAY_S, "after 7 days"),
)
"""When the old secret ends, in seconds after a rotation."""


class RefusedForm(InvalidRequest):
    """A form with refused fields; `problems` has the words for each of them."""

    def __init__(self, problems: Mapping[str, str]) -> None:
        super().__init__("; ".join(problems.values()))
        self.problems = problems


class KeyForm(Struct, frozen=True):
    """The texts of the fields by name, and the ids of the ticked models."""

    texts: Mapping[str, str]
    models: tuple[str, ...] = ()

    @classmethod
    def sent(cls, fields: Mapping[str, str]) -> KeyForm:
        """Return the form that a page has sent."""
        ticked = [name.removeprefix(MODEL) for name in fields if name.startswith(MODEL)]
        return cls(fields, tuple(ticked))

    @classmethod
    def of(cls, key: Key) -> KeyForm:
        """Return the form that shows a key."""
        limits = key.limits
        texts = {name: written(getattr(limits, name)) for name in COUNT_LIMITS}
        texts |= {
            "name": key.name,
            "note": key.note,
            "budget": dollars(limits.budget_microusd),
            "budget_period": limits.budget_period,
            "expires": day_of(key.expires_at),
            "weight": str(key.weight),
        }
        return cls(texts, key.models or ())

    @classmethod
    def like(cls, key: Key) -> KeyForm:
        """Return the form of a new key with the limits and models of another one."""
        form = cls.of(key)
        is_over = key.expires_at is not None and key.expires_at <= time.time()
        other = {"name": "", "note": "", **({"expires": ""} if is_over else {})}
        return cls({**form.texts, **other}, form.models)

    def text(self, name: str) -> str:
        """Return the text of a field."""
        return self.texts.get(name, "")

    def body(self, key: Key | None = None) -> dict[str, Any]:
        """Return the body for the API: that of a new key, or of the changes to `key`.

        Fields that were not sent are left out. So are the models and the expiry of `key` when they
        are unchanged: the models may have left the catalog, and the expiry may lie in the past.
        """
        texts = self.texts
        body: dict[str, Any] = {"name": self.text("name")}
        if "note" in texts:
            body["note"] = texts["note"]
        if "weight" in texts:
            body["weight"] = number(texts["weight"])
        if "expires" in texts and (key is None or texts["expires"] != day_of(key.expires_at)):
            body["expires_at"] = end_of_day(texts["expires"])
        if "models" in texts and (key is None or set(self.models) != set(key.models or ())):
            body["models"] = list(self.models) or None
        limits: dict[str, Any] = {
            name: number(texts[name]) for name in COUNT_LIMITS if name in texts
        }
        if "budget" in texts:
            limits["budget_microusd"] = microusd(texts["budget"])
        if "budget_period" in texts:
            limits["budget_period"] = texts["budget_period"]
        return body | {"limits": limits}


def presets(today: date) -> tuple[tuple[str, str, dict[str, str]], ...]:
    """Return the presets of a new key: name, purpose and fields."""
    trial_ends = (today + timedelta(days=TRIAL_DAYS)).isoformat()
    return (
        (
            "personal",
            "one person",
            _preset(requests="30", concurrent="4", budget="20", period="month"),
        ),
        (
            "app",
            "a program in use",
            _preset(requests="300", tokens="500000", concurrent="20", budget="100", period="month"),
        ),
        (
            "trial",
            "a week, one dollar",
            _preset(
                requests="5",
                tokens="20000",
                concurrent="1",
                budget="1",
                period="total",
                expires=trial_ends,
            ),
        ),
    )


def _preset(
    *,
    requests: str,
    concurrent: str,
    budget: str,
    period: BudgetPeriod,
    tokens: str = "",
    expires: str = "",
) -> dict[str, str]:
    """Return the texts of a preset's fields; "": no limit, or never."""
    return {
        "requests_per_minute": requests,
        "tokens_per_minute": tokens,
        "concurrent_requests": concurrent,
        "budget": budget,
        "budget_period": period,
        "expires": expires,
    }


def checked(body: dict[str, Any], parse: Callable[[bytes], Parsed]) -> Parsed:
    """Read a body by the rules of the API. Raises RefusedForm with every refused field."""
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
    """Return a refusal for display beside its field, without the field's name."""
    said = message.removeprefix(f"'{param}' ")
    return said[:1].upper() + said[1:]


def _without(body: dict[str, Any], param: str) -> dict[str, Any]:
    """Return a body in which a refused field is acceptable, so that the others can be checked."""
    rest = {name: value for name, value in body.items() if name != param}
    if param == "name":
        rest["name"] = "-"
    if "limits" in rest:
        rest["limits"] = {name: v for name, v in rest["limits"].items() if name != param}
    return rest


def chosen_period(text: str) -> str:
    """Return the period that a form shows as selected."""
    return text if text in PERIODS else "month"


def number(text: str) -> int | str | None:
    """Read a whole number; return None for an empty text and any other text as it is."""
    text = text.strip()
    if re.fullmatch(rf"[0-9]{{1,{LONGEST_NUMBER}}}", text):
        return int(text)
    return text or None


def end_of_day(text: str) -> int | str | None:
    """Read a day as its last second in UTC; return None for an empty text, others as they are."""
    text = text.strip()
    if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        try:
            day = date.fromisoformat(text)
        except ValueError:
            return text
        return int(datetime.combine(day, clock_time(23, 59, 59), UTC).timestamp())
    return text or None


def day_of(instant: int | None) -> str:
    """Return the UTC day of an instant, or "" for None."""
    return "" if instant is None else datetime.fromtimestamp(instant, UTC).date().isoformat()


def written(value: int | None) -> str:
    """Return a number as it is typed."""
    return "" if value is None else str(value)


def dollars(microusd: int | None) -> str:
    """Return a budget as it is typed, or "" where there is none."""
    return "" if microusd is None else as_typed(microusd)


def microusd(text: str) -> int | str | None:
    """Read dollars as micro-dollars; return None for an empty text and any other text as it is."""
    text = text.strip()
    amount = read_dollars(text)
    return (text or None) if amount is None else amount
