"""Serve the page that an invitation's link leads to.

Programs that show previews of links open them. So opening the link changes nothing: the person
continues with a button.
"""

from __future__ import annotations

from server.identity.authentication import Principal, Visit
from server.identity.invitations import InvitationEnded, KeyUnusable
from webui.keys.key_rows import Moment
from webui.keys.key_views import env_lines
from webui.shell.pages import SMALL_FORM_BYTES, PageHandler, who
from webui.sign_in.login_page import end_session


class AcceptPageHandler(PageHandler):
    """The page at `/invite/TOKEN`."""

    body_limit = SMALL_FORM_BYTES
    translated = True
    script_texts = ("key_dialog", "once")

    async def get(self, token: str) -> None:
        """Show what the link is for, with the button to continue."""
        try:
            invitation, key = await self.services.invitations.find(token)
        except InvitationEnded as ended:
            self._show_end(ended)
            return
        visitor = self.visitor()
        signed_in = visitor is not None and visitor.kind != "guest"
        self.show(
            "invitations/accept.html",
            key_name=key.name,
            gives_key=invitation.gives_key,
            until=Moment.of(invitation.expires_at, self.language().figures),
            signed_in_as=who(visitor, self.language().texts) if signed_in else "",
            token=token,
        )

    async def post(self, token: str) -> None:
        """Use the invitation: sign in, and show the new secret of the key if it gives one."""
        self.take_form()
        self.services.wrong_sign_ins.check(self.client_scope())
        try:
            accepted = await self.services.invitations.accept(token)
        except InvitationEnded as ended:
            self.services.wrong_sign_ins.add(self.client_scope())
            self._show_end(ended)
            return
        await end_session(self)
        headers = {"Set-Cookie": self.session_cookie(accepted.session_id)}
        if accepted.secret is None:
            self.redirect_to("/", headers)
            return
        key = accepted.key
        holder = Principal("key", key.id, key, credential=key.digest)
        self.become(Visit(holder, accepted.session_id))
        self.show(
            "invitations/accepted.html",
            headers=headers,
            key_name=key.name,
            secret=accepted.secret,
            env=env_lines(self, accepted.secret),
        )

    def _show_end(self, ended: InvitationEnded) -> None:
        texts = self.language().texts
        words = (
            texts.invitations.key_off
            if isinstance(ended, KeyUnusable)
            else texts.invitations.not_valid
        )
        self.show("invitations/ended.html", ended.status, message=words)
