"""Return the names of keys and models on the owner's pages, and the filters made of them.

Where there are at most MAX_OPTIONS keys, the filter lists them. Beyond that it is a text field
that completes as one types; the server finds the key of the text that was sent, or offers those
that match. Only the keys that a page shows are read.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlencode

from msgspec import structs

from server.keys.key_ring import KeyRing
from server.store.key import Key
from server.store.rows import KeyQuery
from webui.shell.pages import PageHandler
from webui.shell.texts import DEFAULT, fill, languages
from workers.errors import InvalidRequest

NOT_KEYS = ("owner", "guest")
"""The key ids of the rows of callers without a key of their own."""
MAX_OPTIONS = 100
MAX_MATCHES = 20
BETWEEN = " · "
"""Between the name and the redacted secret of a key, in a text field."""


def names_without_key(texts: Any) -> dict[str, str]:
    """Return the names of callers without a key of their own, by the key id of their rows."""
    return {"owner": texts.filters.owner, "guest": texts.filters.guests}


class SelectOption(NamedTuple):
    """One option of a select element."""

    value: str
    label: str
    chosen: bool


class Match(NamedTuple):
    """A key that a typed text may mean: its label, and the page with this key as the filter."""

    label: str
    href: str


class People:
    """The callers of the rows on a page, by the key id of their rows.

    `shared` are the names that several keys have. Without `texts`, words are in English: files that
    programs read keep them in every language of the pages.
    """

    def __init__(
        self, keys: Mapping[str, Key], shared: Collection[str] = (), texts: Any = None
    ) -> None:
        self._keys = keys
        self.texts = texts or languages()[DEFAULT].texts
        self._others = names_without_key(self.texts)
        self._shared = {*shared, *self._others.values()}

    @classmethod
    async def find(cls, ring: KeyRing, key_ids: Iterable[str], texts: Any = None) -> People:
        """Read the callers with these key ids."""
        keys = await ring.find_all({*key_ids}.difference(NOT_KEYS))
        names = sorted({key.name for key in keys.values()})
        return cls(keys, await ring.store.shared_names(names) if names else (), texts)

    def __contains__(self, key_id: str) -> bool:
        return key_id in NOT_KEYS or key_id in self._keys

    def name(self, key_id: str) -> str:
        """Return the name; keys that share a name get their redacted secret added."""
        key = self._keys.get(key_id)
        if key is None:
            return self._others.get(key_id, key_id)
        return f"{key.name} ({key.redacted})" if key.name in self._shared else key.name

    def redacted(self, key_id: str) -> str:
        """Return the redacted secret, or "" for callers without a key."""
        key = self._keys.get(key_id)
        return key.redacted if key is not None else ""

    def state(self, key_id: str) -> str:
        """Return the word for a revoked key, else ""."""
        key = self._keys.get(key_id)
        is_revoked = key is not None and key.status == "revoked"
        return str(self.texts.filters.revoked) if is_revoked else ""

    def label(self, key_id: str) -> str:
        """Return the name and the state."""
        name, state = self.name(key_id), self.state(key_id)
        return fill(self.texts.filters.named_state, name=name, state=state) if state else name

    def options(self, chosen: str) -> list[SelectOption]:
        """Return the options of a select element, those without a key first."""
        keys = sorted(self._keys, key=lambda one: self.name(one).casefold())
        return [SelectOption(one, self.label(one), one == chosen) for one in (*NOT_KEYS, *keys)]


class KeyFilter(NamedTuple):
    """The filter of a page by key: `options` of a select element, or the text of a field.

    `chosen` is the key id of the filter, "" for none.
    """

    chosen: str
    options: Sequence[SelectOption]
    text: str

    @property
    def is_typed(self) -> bool:
        """True where there are too many keys for a list of options."""
        return not self.options


async def read_key_filter(
    page: PageHandler, sent: str, link_to: Callable[[str], str]
) -> KeyFilter | None:
    """Return the filter that the parameter `key` states; None: the page is answered already.

    A text that means one key redirects to the page of its id, which `link_to` returns; one that
    means several is answered with the list of them. Raises InvalidRequest for a text that means
    none.
    """
    ring, sent = page.services.keys, sent.strip()
    texts = page.language().texts
    if sent and sent not in NOT_KEYS and not await ring.find_all((sent,)):
        await _answer_typed(page, sent, link_to)
        return None
    if await ring.store.count_keys() <= MAX_OPTIONS:
        every = {key.id: key for key in await ring.list()}
        names = [key.name for key in every.values()]
        shared = {name for name in names if names.count(name) > 1}
        return KeyFilter(sent, People(every, shared, texts).options(sent), "")
    key = (await ring.find_all((sent,))).get(sent)
    others = names_without_key(texts)
    text = f"{key.name}{BETWEEN}{key.redacted}" if key is not None else others.get(sent, "")
    return KeyFilter(sent, (), text)


async def _answer_typed(page: PageHandler, text: str, link_to: Callable[[str], str]) -> None:
    """Answer a text that is no id of a key: with the page of the key it means, or those it may."""
    texts = page.language().texts
    found = await _search(page.services.keys, text, names_without_key(texts))
    if not found:
        page.said = texts.filters.no_key
        raise InvalidRequest(
            "There is no key with this id, name or redacted secret. Use 'owner' or 'guest' for"
            " requests without a key.",
            param="key",
        )
    if len(found) == 1:
        page.redirect_to(link_to(found[0].id))
        return
    matches = [Match(f"{key.name}{BETWEEN}{key.redacted}", link_to(key.id)) for key in found]
    page.show("shell/matches.html", text=text, matches=matches, most=MAX_MATCHES, back=link_to(""))


async def _search(ring: KeyRing, text: str, others: Mapping[str, str]) -> Sequence[Key]:
    """Return the keys that a typed text may mean, the newest first; `others` have no key."""
    for key_id, name in others.items():
        if text.casefold() == name.casefold():
            return [Key(key_id, name, "", b"", 0)]
    name, between, redacted = text.rpartition(BETWEEN)
    for query in (
        KeyQuery(name=name, search=redacted) if between else KeyQuery(name=text),
        KeyQuery(search=text),
    ):
        newest = structs.replace(query, descending=True, limit=MAX_MATCHES)
        if found := await ring.list(newest):
            return found
    return ()


def model_choices(known: Iterable[str], chosen: str) -> list[SelectOption]:
    """Return the options for models; the chosen one too when it has left the catalog."""
    models = sorted({*known, chosen} - {""})
    return [SelectOption(one, one, one == chosen) for one in models]


def link(path: str, **parameters: object) -> str:
    """Return a path with the parameters that have a value."""
    stated = {name: str(value) for name, value in parameters.items() if value not in (None, "")}
    return f"{path}?{urlencode(stated)}" if stated else path
