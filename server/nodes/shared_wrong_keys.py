"""Count the wrong keys of all children: each reports its own to the others, through the keeper."""

from __future__ import annotations

from server.identity.wrong_keys import WrongKeyLimit
from server.nodes.counter_calls import WRONG_KEY, WrongKey
from server.nodes.link import Link


class SharedWrongKeys(WrongKeyLimit):
    """The wrong keys of all children, sent to the API or to the form for signing in.

    A check needs no call: the others learn of a wrong key within a turn of their event loops.
    """

    def __init__(self, link: Link, *, at_form: bool) -> None:
        super().__init__()
        self._link = link
        self._at_form = at_form

    def add(self, address: str) -> None:
        """Count a wrong key, here and in all other children."""
        super().add(address)
        self._link.report(WRONG_KEY, WrongKey(address, self._at_form))

    def add_foreign(self, address: str) -> None:
        """Count a wrong key that another child has received."""
        super().add(address)
