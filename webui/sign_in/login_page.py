"""Serve the sign-in page, which turns a key into a session, and sign-out."""

from __future__ import annotations

import math
import time
from functools import partial

import msgspec

from server.api.base import JSON, BaseHandler
from server.identity.authentication import OWNER_SCOPE, EndedKey, Principal, presented_key
from server.keys.key_ring import KeyEnding
from server.keys.pasted_key import keys_in, looks_cut
from server.keys.read_through import when_read
from server.keys.secret import digest_of
from webui.shell.pages import SMALL_FORM_BYTES, TEXTS_COOKIE, PageHandler, message_of
from webui.shell.texts import fill, languages
from workers.errors import GatewayError, InvalidKey, InvalidRequest, RateLimited
from workers.units import DAY_S

MAX_NEXT_CHARS = 2000
MAX_KEY_CHARS = 2000
YEAR_S = 365 * DAY_S


def own_path(wanted: str) -> str:
    """Return the path to go to after signing in, or "/" for anything but a local path."""
    # Browsers read "//host" and "/\host" as another host (WHATWG URL, relative slash state).
    plain = wanted.isascii() and wanted.isprintable() and "\\" not in wanted
    if not plain or not wanted.startswith("/") or wanted.startswith("//"):
        return "/"
    return wanted[:MAX_NEXT_CHARS]


class LoginHandler(PageHandler):
    """The sign-in page."""

    body_limit = SMALL_FORM_BYTES
    translated = True
    script_texts = ("login",)

    def get(self) -> None:
        """Show the form, or redirect a visitor who is signed in already."""
        visitor = self.visitor()
        wanted = own_path(self.get_query_argument("next", "/"))
        if visitor is not None and visitor.kind != "guest":
            self.redirect_to(wanted)
        else:
            self._show_form(wanted)

    async def post(self) -> None:
        """Turn a key into a session; a wrong key is counted and the form is shown again."""
        fields = self.take_form()
        wanted = own_path(fields.get("next", "/"))
        services, address = self.services, self.client_scope()
        self._check_tries(address)
        pasted = fields.get("key", "")[:MAX_KEY_CHARS]
        found = await self._find_principal(pasted)
        if not isinstance(found, tuple):
            services.wrong_sign_ins.add(address)
            problem = self._problem(pasted, found)
            if self._by_script():
                self.said = problem
                raise InvalidKey(problem)
            self._show_form(wanted, 401, problem=problem)
            return
        principal, secret = found
        await end_session(self)
        scope = OWNER_SCOPE if principal.is_owner else principal.scope
        session_id = await services.sessions.begin(scope, digest_of(secret))
        headers = {"Set-Cookie": self.session_cookie(session_id)}
        if self._by_script():
            self.reply(200, msgspec.json.encode({"next": wanted}), headers | {"Content-Type": JSON})
        else:
            self.redirect_to(wanted, headers)

    def render_error(self, error: GatewayError) -> tuple[bytes, str]:
        """Return the error as a page; for its script as JSON, in the page's language."""
        if self._by_script():
            words = self.said or message_of(error, self.language().texts)
            error.message = words or error.message
            return BaseHandler.render_error(self, error)
        return super().render_error(error)

    def add_headers(self, headers: dict[str, str]) -> None:
        """Add the headers of a page; what is for its script stays JSON."""
        super().add_headers(headers)
        if self._by_script():
            headers["Content-Type"] = JSON

    def _check_tries(self, address: str) -> None:
        """Raise RateLimited, in the visitor's language, after too many wrong keys."""
        try:
            self.services.wrong_sign_ins.check(address)
        except RateLimited as error:
            texts = self.language().texts
            seconds = math.ceil(error.retry_after_s or 1)
            self.said = fill(texts.login.too_many, seconds=seconds)
            raise

    def _by_script(self) -> bool:
        """Return True for the page's script, which keeps a wrong key in its field.

        A page that is made anew never holds what was typed.
        """
        return self.request.headers.get("Accept", "") == JSON

    def _problem(self, pasted: str, ending: KeyEnding | None) -> str:
        """Return why a pasted text does not sign in."""
        texts = self.language().texts
        if ending is None:
            return str(texts.login.cut_key if looks_cut(pasted) else texts.login.wrong_key)
        known = {
            "disabled": texts.login.key_disabled,
            "expired": texts.login.key_expired,
            "revoked": texts.login.key_revoked,
            "replaced": texts.login.key_replaced,
        }
        return str(known[ending])

    async def _find_principal(self, pasted: str) -> tuple[Principal, str] | KeyEnding | None:
        """Return the principal of the key in a pasted text, and the key.

        Without one, return why the key in it has ended, if it was valid once.
        """
        authentication = self.services.authentication
        ending: KeyEnding | None = None
        for secret in keys_in(pasted):
            try:
                find = partial(authentication.principal_of, secret, time.time())
                return await when_read(find), secret
            except EndedKey as error:
                ending = error.ending
            except InvalidKey:
                continue
        return ending

    def _show_form(self, wanted: str, status: int = 200, *, problem: str = "") -> None:
        self.show(
            "shell/login.html",
            status,
            wanted=wanted,
            problem=problem,
            max_key_chars=MAX_KEY_CHARS,
            guests=self.services.config.guests.enabled,
        )


class LanguageHandler(PageHandler):
    """The choice of a language."""

    body_limit = SMALL_FORM_BYTES
    translated = True

    def post(self) -> None:
        """Keep the chosen language in a cookie, and go back to the page."""
        fields = self.take_form()
        chosen = fields.get("language", "")
        if chosen not in languages():
            raise InvalidRequest("There are no texts in this language.", param="language")
        cookie = self.cookie(TEXTS_COOKIE, chosen, YEAR_S)
        self.redirect_to(own_path(fields.get("next", "/")), {"Set-Cookie": cookie})


class LogoutHandler(PageHandler):
    """The end of a session."""

    body_limit = SMALL_FORM_BYTES

    async def post(self) -> None:
        """End the session, if there is one, and redirect to the front page."""
        self.take_form()
        await end_session(self)
        self.redirect_to("/", {"Set-Cookie": self.session_cookie("")})


async def end_session(page: PageHandler) -> None:
    """End the session of the page's request, if there is one."""
    services, headers = page.services, page.request.headers
    visit = services.authentication.find_session(headers, time.time(), secure=page.is_secure())
    session = services.sessions.find(visit.cookie, time.time()) if visit is not None else None
    if session is not None and presented_key(headers) is None:
        await services.sessions.sign_out(session)
