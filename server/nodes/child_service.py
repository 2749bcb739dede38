"""Answer the calls of one child at the keeper: for the store, the counters and the wrong keys.

The keeper remembers the leases of a child until they are settled. Those of a child that has ended
are settled at once: each stays counted as a request, with the usage that the child has noted.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, NamedTuple, TypeVar

from msgspec import structs

from server.accounting.counters import Counters, Shared, Standing, Taken
from server.accounting.memory_counters import MemoryCounters
from server.accounting.notes.note_files import RequestNote
from server.history.chat_history import ChatHistory
from server.nodes import store_calls
from server.nodes.announcements import Announcements
from server.nodes.counter_calls import (
    GIVE_BACK,
    SETTLE,
    STANDING,
    TAKE,
    WRONG_KEY,
    Settle,
    Take,
    WrongKey,
)
from server.nodes.keeper_history import answer_for_history
from server.nodes.link import Link
from server.nodes.procedure import Service
from server.nodes.store_calls import (
    InvitationMark,
    NamedValue,
    SessionNotes,
)
from server.store.key import Key, Limits
from server.store.rows import InvitationRow, StoreChanges
from server.store.store import OWNER_META, Store

T = TypeVar("T")

MAX_ANNOUNCED_KEYS = 100
"""With more new keys than this, children compare what they know with the store instead."""
MAX_KNOWN_LIMITS = 10_000


class KeeperData(NamedTuple):
    """What all children use of the keeper."""

    store: Store
    history: ChatHistory
    counters: Counters
    announcements: Announcements
    known_limits: dict[Limits, Limits]
    """Limits by their value: counters recognize a scope's limits by identity."""


class ChildService:
    """Answer one child over its link; `left` returns its notes once it has ended."""

    def __init__(
        self,
        data: KeeperData,
        service: Service,
        left: Callable[[], Sequence[RequestNote]] = tuple,
    ) -> None:
        self._data = data
        self._left = left
        self._link: Link | None = None
        self._leases: dict[str, Taken] = {}
        self._answer_for_store(service, data.store)
        self._answer_for_keys(service, data.store)
        self._answer_for_counters(service)
        answer_for_history(service, data.history)

    def connect(self, link: Link) -> None:
        """Announce changes over this link, and settle what is left when it is lost."""
        self._link = link
        self._data.announcements.add(link)
        link.on_lost(self._settle_all)

    # The store

    def _answer_for_store(self, service: Service, store: Store) -> None:
        service.answer(store_calls.LOAD_KEYS, _without_question(store.load_keys))
        service.answer(store_calls.KEY_PREFIXES, _without_question(store.key_prefixes))
        service.answer(store_calls.FIND_KEY, store.find_key)
        service.answer(store_calls.FIND_KEY_BY_DIGEST, store.find_key_by_digest)
        service.answer(store_calls.LIST_KEYS, store.list_keys)
        service.answer(store_calls.COUNT_KEYS, store.count_keys)
        service.answer(store_calls.FIND_KEYS, store.find_keys)
        service.answer(store_calls.SHARED_NAMES, store.shared_names)
        service.answer(store_calls.LOAD_META, store.load_meta)
        service.answer(store_calls.LOAD_SESSIONS, _without_question(store.load_sessions))
        service.answer(store_calls.FIND_SESSION, store.find_session)
        service.answer(store_calls.PUT_SESSION, store.put_session)
        service.answer(store_calls.ADD_INVITATIONS, store.add_invitations)
        service.answer(store_calls.LIST_INVITATIONS, _without_question(store.list_invitations))
        service.answer(store_calls.FIND_INVITATION, self._find_invitation)
        service.answer(store_calls.END_INVITATION, _by_name(store.end_invitation))
        service.answer(store_calls.LOAD_COUNTERS, _without_question(store.load_counters))
        service.answer(store_calls.DROP_COUNTERS, store.drop_counters)
        service.answer(store_calls.RECORD, store.record)
        service.answer(store_calls.USAGE_BY, store.usage_by)
        service.answer(store_calls.USAGE_RANKING, store.usage_ranking)
        service.answer(store_calls.USAGE_ROWS, store.usage_rows)
        service.answer(store_calls.TTFT_PERCENTILE, store.ttft_percentile)
        service.answer(store_calls.FIND_USAGE_ROW, store.find_usage_row)
        service.answer(store_calls.USAGE_TIMES, store.usage_times)
        service.answer(store_calls.PRUNE, store.prune)
        service.answer(store_calls.CHECK_WRITABLE, _without_question(store.check_writable))

    # What other children must know

    def _answer_for_keys(self, service: Service, store: Store) -> None:
        service.answer(store_calls.REPLACE_KEY, self._replace_key)
        service.answer(store_calls.ADD_KEYS, self._add_keys)
        service.answer(store_calls.PUT_META, self._put_meta)
        service.answer(store_calls.PUT_META_IF_ABSENT, _by_name(store.put_meta_if_absent))
        service.answer(store_calls.NOTE_SESSIONS, self._note_sessions)

    async def _replace_key(self, key: Key) -> bool:
        replaced = await self._data.store.replace_key(key)
        if replaced:
            await self._announce(StoreChanges(keys=(key,)))
        return replaced

    async def _add_keys(self, keys: list[Key]) -> tuple[int, int]:
        added, kept = await self._data.store.add_keys(keys)
        if added:
            every = kept == 0 and added <= MAX_ANNOUNCED_KEYS
            await self._announce(StoreChanges(keys=keys) if every else StoreChanges(all=True))
        return added, kept

    async def _put_meta(self, named: NamedValue) -> None:
        await self._data.store.put_meta(named.name, named.value)
        if named.name == OWNER_META:
            await self._announce(StoreChanges(owner=named.value))

    async def _find_invitation(self, mark: InvitationMark) -> InvitationRow | None:
        sought = mark.invitation_id if mark.digest is None else mark.digest
        return await self._data.store.find_invitation(sought)

    async def _note_sessions(self, notes: SessionNotes) -> None:
        await self._data.store.note_sessions(notes.seen, notes.ended)
        if notes.ended:
            await self._announce(StoreChanges(sessions=notes.ended))

    async def _announce(self, changes: StoreChanges) -> None:
        assert self._link is not None
        await self._data.announcements.announce(changes, self._link)

    # Counters and wrong keys

    def _answer_for_counters(self, service: Service) -> None:
        if type(self._data.counters) is MemoryCounters:
            # Without a task: counters in memory never wait.
            service.answer_at_once(TAKE, lambda take: _at_once(self._take(take)))
            service.answer_at_once(STANDING, lambda take: _at_once(self._standing(take)))
        else:
            service.answer(TAKE, self._take)
            service.answer(STANDING, self._standing)
        service.answer_at_once(SETTLE, self._settle)
        service.answer_at_once(GIVE_BACK, self._give_back)
        service.answer_at_once(WRONG_KEY, self._pass_on_wrong_key)

    async def _take(self, take: Take) -> Taken:
        shared = None
        if take.shared is not None:
            shared = Shared(take.shared.scope, self._known(take.shared.limits))
        taken = await self._data.counters.take(
            take.scope, self._limits(take), take.tokens, take.cost_microusd, shared
        )
        if self._link is None or self._link.is_lost:
            self._data.counters.settle(taken, 0, 0)
        else:
            self._leases[taken.lease] = taken
        return taken

    async def _standing(self, take: Take) -> Standing:
        return await self._data.counters.standing(take.scope, self._limits(take))

    def _limits(self, take: Take) -> Limits:
        return self._known(take.guest_limits or take.limits or Limits())

    def _known(self, limits: Limits) -> Limits:
        known = self._data.known_limits
        if len(known) >= MAX_KNOWN_LIMITS:
            known.clear()
        return known.setdefault(limits, limits)

    def _settle(self, settle: Settle) -> None:
        taken = self._leases.pop(settle.lease, None)
        if taken is not None:
            self._data.counters.settle(taken, settle.tokens, settle.cost_microusd)

    def _give_back(self, lease: str) -> None:
        taken = self._leases.pop(lease, None)
        if taken is not None:
            self._data.counters.give_back(taken)

    def _settle_all(self) -> None:
        leases, self._leases = self._leases, {}
        # Backwards: an ended request, which may still be noted as running, comes first.
        left = reversed(self._left())
        noted = {note.taken.lease: note for note in left if note.taken is not None}
        for taken in leases.values():
            note = noted.get(taken.lease)
            tokens, cost = (note.tokens, note.row.cost_microusd or 0) if note else (0, 0)
            self._data.counters.settle(taken, tokens, cost)

    def _pass_on_wrong_key(self, wrong: WrongKey) -> None:
        assert self._link is not None
        self._data.announcements.pass_on_wrong_key(wrong, self._link)


def _without_question(
    function: Callable[[], Coroutine[Any, Any, T]],
) -> Callable[[None], Coroutine[Any, Any, T]]:
    """Return a function that takes the empty question of a procedure."""
    return lambda _: function()


def _by_name(function: Callable[..., Coroutine[Any, Any, T]]) -> Callable[[Any], Awaitable[T]]:
    """Return a function that takes the arguments as the fields of one struct."""
    return lambda question: function(**structs.asdict(question))


def _at_once(work: Coroutine[Any, Any, T]) -> T:
    """Return the result of a coroutine that never suspends."""
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    work.close()
    raise RuntimeError("counters in memory must not wait")
