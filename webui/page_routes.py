"""List the routes of the pages; the last one matches every other path."""

from __future__ import annotations

from server.api.base import BaseHandler
from webui.chat.chat_page import ChatPageHandler
from webui.docs.docs_page import DocsHandler, DocsMarkdownHandler
from webui.keys.accept_page import AcceptPageHandler
from webui.keys.invitations_page import (
    EndInvitationHandler,
    InvitationsPageHandler,
    InvitePageHandler,
)
from webui.keys.keys_page import (
    KeyPageHandler,
    KeysExportHandler,
    KeysPageHandler,
    NewKeyPageHandler,
    RevokePageHandler,
    RotatePageHandler,
    SwitchKeyHandler,
)
from webui.keys.many_page import ManyKeysPageHandler
from webui.live.live_page import LivePageHandler, StopHandler
from webui.models.models_page import ModelsPageHandler
from webui.requests.requests_page import RequestPageHandler, RequestsPageHandler
from webui.share.share_page import ShareFileHandler, SharePageHandler
from webui.shell.assets import AssetHandler
from webui.shell.brand import LogoHandler, ManifestHandler
from webui.shell.pages import NoSuchPageHandler
from webui.sign_in.login_page import LanguageHandler, LoginHandler, LogoutHandler
from webui.usage.statement_page import StatementPageHandler
from webui.usage.usage_file import UsageFileHandler
from webui.usage.usage_page import UsagePageHandler


def page_rules(services: object) -> list[tuple[str, type[BaseHandler], dict[str, object]]]:
    """Return Tornado's rules for the pages."""
    given = {"services": services}
    return [
        (r"/", ChatPageHandler, given),
        (r"/c/([A-Za-z0-9_-]{1,64})", ChatPageHandler, given),
        (r"/keys", KeysPageHandler, given),
        (r"/keys/new", NewKeyPageHandler, given),
        (r"/keys/many", ManyKeysPageHandler, given),
        (r"/keys/export", KeysExportHandler, given),
        (r"/keys/(key_[0-9A-Za-z]{16})", KeyPageHandler, given),
        (r"/keys/(key_[0-9A-Za-z]{16})/(disable|enable)", SwitchKeyHandler, given),
        (r"/keys/(key_[0-9A-Za-z]{16})/rotate", RotatePageHandler, given),
        (r"/keys/(key_[0-9A-Za-z]{16})/revoke", RevokePageHandler, given),
        (r"/keys/(key_[0-9A-Za-z]{16})/invite", InvitePageHandler, given),
        (r"/keys/invitations", InvitationsPageHandler, given),
        (r"/keys/invitations/(inv_[0-9A-Za-z]{16})/revoke", EndInvitationHandler, given),
        (r"/invite/([A-Za-z0-9_-]{1,200})", AcceptPageHandler, given),
        (r"/docs", DocsHandler, given),
        (r"/docs\.md", DocsMarkdownHandler, given),
        (r"/live", LivePageHandler, given),
        (r"/live/([A-Za-z0-9._:-]{8,64})/stop", StopHandler, given),
        (r"/login", LoginHandler, given),
        (r"/logout", LogoutHandler, given),
        (r"/language", LanguageHandler, given),
        (r"/models", ModelsPageHandler, given),
        (r"/s/([A-Za-z0-9_-]{20,64})", SharePageHandler, given),
        (r"/s/([A-Za-z0-9_-]{20,64})/files/([A-Za-z0-9_-]{1,64})", ShareFileHandler, given),
        (r"/usage/statement", StatementPageHandler, given),
        (r"/usage/file", UsageFileHandler, given),
        (r"/usage", UsagePageHandler, given),
        (r"/requests", RequestsPageHandler, given),
        (r"/requests/([^/]+)", RequestPageHandler, given),
        (r"/static/([0-9a-f]{12})/(.+)", AssetHandler, given),
        (r"/logo/([0-9a-f]{12})\.(?:png|svg|webp)", LogoHandler, given),
        (r"/manifest\.webmanifest", ManifestHandler, given),
        (r".*", NoSuchPageHandler, given),
    ]
