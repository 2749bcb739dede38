"""Handle `history/settings`: what a person has set in the web app."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from server.api.history.history_base import HistoryHandler, check_object
from server.history.history_records import HistorySettings
from workers.errors import SettingsChanged
from workers.units import KIB

MAX_SETTINGS_BYTES = 256 * KIB


class SettingsChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """New settings, and the version that they were made from."""

    value: dict[str, Any]
    version: Annotated[int, msgspec.Meta(ge=0, le=2**53)] = 0


SETTINGS_CHANGE = msgspec.json.Decoder(SettingsChange)


class HistorySettingsHandler(HistoryHandler):
    """The settings of the caller in the web app: one JSON object."""

    body_limit = MAX_SETTINGS_BYTES + KIB

    async def get(self) -> None:
        """Return the settings; version 0: there are none."""
        self.reply_json(await self.services.history.settings(self.person))

    async def put(self) -> None:
        """Replace the settings of a version; 409 if they have another one."""
        sent = self.read_body(SETTINGS_CHANGE)
        check_object(sent.value, "value", MAX_SETTINGS_BYTES)
        done, stored = await self.services.history.put_settings(
            self.person, HistorySettings(sent.value, sent.version)
        )
        if not done:
            raise SettingsChanged
        self.reply_json(stored)
