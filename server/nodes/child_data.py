"""The data of the keeper as one child has them: store, chat history, counters, wrong keys."""

from __future__ import annotations

from server.nodes.counter_calls import TROUBLES, WRONG_KEY, Troubles, WrongKey
from server.nodes.keeper_counters import KeeperCounters
from server.nodes.keeper_history import KeeperHistory
from server.nodes.keeper_store import KeeperStore
from server.nodes.link import Link
from server.nodes.procedure import Service
from server.nodes.shared_wrong_keys import SharedWrongKeys


class ChildData:
    """What a child uses over its link; `service` answers the keeper from now on."""

    def __init__(self, link: Link, service: Service) -> None:
        self.store = KeeperStore(link, service)
        self.history = KeeperHistory(link)
        self.counters = KeeperCounters(link)
        self.wrong_keys = SharedWrongKeys(link, at_form=False)
        self.wrong_sign_ins = SharedWrongKeys(link, at_form=True)
        service.answer_at_once(TROUBLES, self._note_troubles)
        service.answer_at_once(WRONG_KEY, self._note_wrong_key)

    def _note_troubles(self, troubles: Troubles) -> None:
        self.store.trouble, self.counters.trouble = troubles.store, troubles.counters

    def _note_wrong_key(self, wrong: WrongKey) -> None:
        keys = self.wrong_sign_ins if wrong.at_form else self.wrong_keys
        keys.add_foreign(wrong.address)
