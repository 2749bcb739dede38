"""List the parameters, bodies, answers and errors of the routes of the chat history."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from msgspec import Meta

from server.api.history.history_changes import MAX_CONVERSATIONS, MAX_HITS, MAX_QUERY_CHARS
from server.api.history.history_settings import SettingsChange
from server.api.history.history_shares import NewShare, ShareObject, ShareObjects
from server.description.operation import Operation, Parameter
from server.history.history_records import (
    ConversationChange,
    ConversationSaved,
    ErasedHistory,
    HistoryChanges,
    HistorySettings,
    RecordId,
    SearchResult,
    WholeConversation,
)
from workers.errors import (
    ConversationChanged,
    ConversationErased,
    Forbidden,
    HistoryFull,
    NotFound,
    PayloadTooLarge,
    SettingsChanged,
    StoreUnavailable,
)

HISTORY_OPERATIONS: Mapping[tuple[str, str], Operation] = {
    ("delete", "history"): Operation({200: ErasedHistory}, errors=(Forbidden, StoreUnavailable)),
    ("get", "history/changes"): Operation(
        {200: HistoryChanges},
        parameters=(
            Parameter("since", int, "The `cursor` of the answer before; 0: everything."),
            Parameter("open", RecordId, "A conversation whose changed messages are wanted, too."),
            Parameter("limit", Annotated[int, Meta(ge=1, le=MAX_CONVERSATIONS)], "Rows per page."),
        ),
        errors=(Forbidden, StoreUnavailable),
    ),
    ("get", "history/conversations/{id}"): Operation(
        {200: WholeConversation}, errors=(Forbidden, NotFound, StoreUnavailable)
    ),
    ("post", "history/conversations/{id}"): Operation(
        {200: ConversationSaved},
        ConversationChange,
        errors=(Forbidden, ConversationErased, HistoryFull, StoreUnavailable),
    ),
    ("delete", "history/conversations/{id}"): Operation(
        {200: ErasedHistory},
        parameters=(
            Parameter("version", Annotated[int, Meta(ge=1)], "Erase this version alone, else 409."),
        ),
        errors=(ConversationChanged, Forbidden, StoreUnavailable),
    ),
    ("get", "history/files/{id}"): Operation(
        {},
        errors=(Forbidden, NotFound, StoreUnavailable),
        others={"application/octet-stream": str},
    ),
    ("put", "history/files/{id}"): Operation(
        {204: None},
        parameters=(
            Parameter("conversation", RecordId, "The conversation that the file belongs to."),
            Parameter("name", str, "The name of the file."),
            Parameter("type", str, "The media type of the file."),
        ),
        errors=(Forbidden, ConversationErased, HistoryFull, PayloadTooLarge, StoreUnavailable),
        upload=True,
    ),
    ("get", "history/settings"): Operation(
        {200: HistorySettings}, errors=(Forbidden, StoreUnavailable)
    ),
    ("put", "history/settings"): Operation(
        {200: HistorySettings},
        SettingsChange,
        errors=(Forbidden, SettingsChanged, StoreUnavailable),
    ),
    ("get", "history/search"): Operation(
        {200: SearchResult},
        parameters=(
            Parameter("q", Annotated[str, Meta(max_length=MAX_QUERY_CHARS)], "The words to find."),
            Parameter("limit", Annotated[int, Meta(ge=1, le=MAX_HITS)], "The most hits."),
        ),
        errors=(Forbidden, StoreUnavailable),
    ),
    ("get", "history/export"): Operation(
        {200: dict[str, Any]}, errors=(Forbidden, StoreUnavailable)
    ),
    ("get", "history/shares"): Operation({200: ShareObjects}, errors=(Forbidden, StoreUnavailable)),
    ("post", "history/shares"): Operation(
        {201: ShareObject},
        NewShare,
        errors=(Forbidden, NotFound, HistoryFull, StoreUnavailable),
    ),
    ("delete", "history/shares/{id}"): Operation(
        {204: None}, errors=(Forbidden, NotFound, StoreUnavailable)
    ),
}
