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
from webui.shell.texts import Language, fill
from workers.errors import InvalidRequest
from workers.money import as_typed, read_dollars
from workers.units import DAY_S, HOUR_S

MODEL = "model:"
"""A ticked model is a field of its own, `model:ID`. Browsers send nothing for boxes that are not
ticked, so the hidden field `models` says that the boxes were shown."""
SHOWN_NEW = ("name", "note", *COUNT_LIMITS, "budget", "budget_period", "expires", "models")
SHOWN = (*SHOWN_NEW, "weight")
"""The fields of the form; a problem with any other field is shown above them."""
FIELD_OF = {"budget_microusd": "budget", "expires_at": "expires"}
TRIAL_DAYS = 7
MAX_DIGITS = 16

Parsed = TypeVar("Parsed")


class Field(NamedTuple):
    """A field for display: `mode` is the keyboard that a phone offers, `kind` its input type."""

    name: str
    label: str
    hint: str
    mode: str = "numeric"
    max_length: int = 30
    required: bool = False
    kind: str = "text"


class Fields(NamedTuple):
    """The fields of a key's form for display; `periods` are the names of a budget's periods."""

    name: Field
    limits: tuple[Field, ...]
    budget: Field
    expires: Field
    weight: Field
    periods: Mapping[BudgetPeriod, str]


def fields_of(texts: Any) -> Fields:
    """Return the fields of the form."""
    return Fields(
        name=Field("name", texts.keys.name, texts.keys.name_hint, "text", 200, required=True),
        limits=(
            Field("requests_per_minute", texts.keys.requests_per_minute, texts.keys.empty_no_limit),
            Field("tokens_per_minute", texts.keys.tokens_per_minute, texts.keys.tokens_hint),
            Field("concurrent_requests", texts.keys.concurrent_requests, texts.keys.empty_no_limit),
        ),
        budget=Field("budget", texts.keys.budget, texts.keys.budget_hint, "decimal"),
        expires=Field(
            "expires",
            texts.keys.expires,
            texts.keys.expires_hint,
            kind="date",
        ),
        weight=Field("weight", texts.keys.weight, texts.keys.weight_hint),
        periods=vars(texts.keys.periods),
    )


def grace_of(texts: Any) -> tuple[tuple[int, str], ...]:
    """Return when the old secret may end: seconds after a rotation, and the words for it."""
    return (
        (0, texts.keys.at_once),
        (HOUR_S, texts.keys.after_hour),
        (DAY_S, texts.keys.after_day),
        (7 * DAY_S, texts.keys.after_week),
    )


def refusals_of(language: Language) -> dict[str, str]:
    """Return what to do about a refused field."""
    texts = language.texts
    return {
        **dict.fromkeys(COUNT_LIMITS, texts.keys.bad_count),
        "name": texts.keys.bad_name,
        "weight": texts.keys.bad_weight,
        "budget": texts.keys.bad_budget,
        "budget_period": texts.keys.bad_period,
        "expires": texts.keys.bad_expires,
        "models": texts.keys.bad_models,
        "note": fill(texts.keys.bad_note, most=language.figures.count(NOTE_LENGTH)),
        "grace_s": texts.keys.bad_grace,
    }


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


class Preset(NamedTuple):
    """A preset of a new key; `id` is its name in the URL."""

    id: str
    name: str
    purpose: str
    fields: dict[str, str]


def presets(today: date, texts: Any) -> tuple[Preset, ...]:
    """Return the presets of a new key."""
    trial_ends = (today + timedelta(days=TRIAL_DAYS)).isoformat()
    return (
        Preset(
            "personal",
            texts.keys.personal,
            texts.keys.personal_about,
            _preset(requests="30", concurrent="4", budget="20", period="month"),
        ),
        Preset(
            "app",
            texts.keys.app,
            texts.keys.app_about,
            _preset(requests="300", tokens="500000", concurrent="20", budget="100", period="month"),
        ),
        Preset(
            "trial",
            texts.keys.trial,
            texts.keys.trial_about,
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


def checked(body: dict[str, Any], parse: Callable[[bytes], Parsed], language: Language) -> Parsed:
    """Read a body by the rules of the API. Raises RefusedForm with every refused field.

    For fields without words of the form, the message of the refusal is shown, in English.
    """
    problems: dict[str, str] = {}
    words = refusals_of(language)
    while True:
        try:
            parsed = parse(msgspec.json.encode(body))
        except InvalidRequest as error:
            param = (error.param or "").removeprefix("limits.").partition("[")[0]
            field = FIELD_OF.get(param, param)
            if field in problems:
                break
            problems[field] = words.get(field) or _in_place(error.message, param)
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
    if re.fullmatch(rf"[0-9]{{1,{MAX_DIGITS}}}", text):
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
