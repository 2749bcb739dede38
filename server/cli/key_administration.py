"""The two ways in which `roxy keys` reaches the keys: the database, or a running gateway's API.

A running gateway owns the data directory, so it is asked: with the owner key of the environment, or
with the secret that the gateway leaves in the data directory for commands. Otherwise the command
opens the database itself.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

import msgspec
from tornado.httpclient import AsyncHTTPClient, HTTPClientError

from server.config.loading import Config
from server.identity.invitations import Invitations
from server.identity.sessions import Sessions
from server.keys.command_proof import (
    CHALLENGE_HEADER,
    PROOF_HEADER,
    is_proof,
    make_challenge,
)
from server.keys.export import open_key_ring
from server.keys.key_requests import (
    default_limits,
    parse_invitation,
    parse_new_key,
    parse_rotation,
)
from server.keys.key_ring import KeyRing
from server.keys.secret import digest_of
from server.shapes.invitation_object import (
    InvitationObject,
    invitation_object,
    invitation_with_link,
)
from server.shapes.key_object import KeyObject, key_object, key_with_secret
from server.store.data_directory import DataDirectory, DirectoryTaken
from server.store.postgres.postgres_opening import COMMAND_PATIENCE, open_postgres_store
from server.store.rows import KeyQuery
from server.store.sqlite.sqlite_store import SqliteStore
from workers.catalog.catalog_file import load_catalog
from workers.errors import GatewayError
from workers.providers.formats import TRANSLATORS

KEYS = "keys"
INVITATIONS = "invitations"
PAGE_KEYS = 1000
MAX_FOUND = 10


class CommandFailure(Exception):
    """A command failed; the message is one line. `code` and `param` are those of an API error."""

    def __init__(self, message: str, *, code: str | None = None, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.param = param


class KeyAdministration(Protocol):
    """The requests that `roxy keys` makes. Every method raises CommandFailure."""

    def list(self) -> AsyncIterator[list[dict[str, Any]]]:
        """Return every key, a page at a time."""

    async def find(self, text: str) -> Sequence[dict[str, Any]]:
        """Return some of the keys whose name, note, redacted secret or id contains a text."""

    async def get(self, key_id: str) -> dict[str, Any]:
        """Return one key."""

    async def create(self, body: dict[str, Any]) -> dict[str, Any]:
        """Create a key and return it with its secret."""

    async def revoke(self, key_id: str) -> dict[str, Any]:
        """Revoke a key permanently."""

    async def rotate(self, key_id: str, grace_s: int) -> dict[str, Any]:
        """Replace the secret of a key and return the key with the new one."""

    async def invite(self, body: dict[str, Any]) -> dict[str, Any]:
        """Make an invitation and return it with its link."""

    async def invitations(self) -> Sequence[dict[str, Any]]:
        """Return the newest invitations."""

    async def end_invitation(self, invitation_id: str) -> dict[str, Any]:
        """Revoke an invitation, if it is open, and return it."""


@contextlib.asynccontextmanager
async def open_administration(
    config: Config, environ: Mapping[str, str]
) -> AsyncIterator[KeyAdministration]:
    """Use the database, or the gateway that runs with it. Raises CommandFailure, StoreFailure."""
    try:
        async with open_keys(config) as keys:
            yield DatabaseKeys(keys, config)
    except DirectoryTaken as error:
        secret = environ.get("ROXY_ADMIN_API_KEY") or error.command_secret
        if not error.url:  # held by another command, or by a gateway that is still starting
            raise
        if not secret:
            raise CommandFailure(
                f"{error} To use that gateway, set ROXY_ADMIN_API_KEY to its owner key."
            ) from error
        if error.command_secret:  # older gateways have none
            await _check_gateway(error.url, error.command_secret, config.server.data_dir)
        yield GatewayKeys(error.url, secret)


async def _check_gateway(url: str, command_secret: str, directory: str) -> None:
    """Raise CommandFailure unless the gateway that holds the directory answers at the URL."""
    challenge = make_challenge()
    client = AsyncHTTPClient()
    try:
        answer = await client.fetch(
            f"{url}/healthz",
            headers={CHALLENGE_HEADER: challenge},
            follow_redirects=False,
            validate_cert=False,
            raise_error=False,
        )
    except (HTTPClientError, OSError) as error:
        raise CommandFailure(f"The running gateway does not answer at {url}: {error}") from error
    finally:
        client.close()
    digest = digest_of(command_secret)
    if not is_proof(answer.headers.get(PROOF_HEADER, ""), digest, challenge):
        raise CommandFailure(
            f"What answers at {url} is not the gateway that uses {directory}, so no key was sent to"
            " it. Run this command where that gateway runs: on its machine, in its container."
        )


@contextlib.asynccontextmanager
async def open_keys(config: Config, *, may_create: bool = False) -> AsyncIterator[KeyRing]:
    """Lock the data directory and load its keys; after a change the export is written too.

    Keys in the database of ROXY_DATABASE_URL need no lock: gateways that run find every change
    there, and write the export.
    """
    async with contextlib.AsyncExitStack() as stack:
        if config.database_url:
            shared = open_postgres_store(config.database_url, spool=None, patience=COMMAND_PATIENCE)
            ring = KeyRing(await stack.enter_async_context(shared))
            stack.push_async_callback(ring.aclose)
            await ring.load()
            yield ring
            return
        directory = DataDirectory(Path(config.server.data_dir))
        if not may_create:
            directory.check_used()
        stack.enter_context(directory)
        store = await stack.enter_async_context(SqliteStore(directory.database))
        yield await stack.enter_async_context(open_key_ring(store, directory.export))


class DatabaseKeys:
    """Change the keys in the database of a gateway that is not running."""

    def __init__(self, keys: KeyRing, config: Config) -> None:
        self._keys = keys
        self._config = config
        self._invitations = Invitations(keys.store, keys, Sessions(keys.store, keys))

    async def list(self) -> AsyncIterator[list[dict[str, Any]]]:
        """Return every key, a page at a time."""
        last: str | None = None
        while keys := await self._keys.list(KeyQuery(after=last, limit=PAGE_KEYS)):
            yield [_shown(key_object(key)) for key in keys]
            last = keys[-1].id

    async def find(self, text: str) -> Sequence[dict[str, Any]]:
        """Return some of the keys whose name, note, redacted secret or id contains a text."""
        keys = await self._keys.list(KeyQuery(search=text, revoked=False, limit=MAX_FOUND))
        return [_shown(key_object(key)) for key in keys]

    async def get(self, key_id: str) -> dict[str, Any]:
        """Return one key."""
        with _api_errors_as_failures():
            return _shown(key_object(await self._keys.get(key_id)))

    async def create(self, body: dict[str, Any]) -> dict[str, Any]:
        """Create a key with the same checks and defaults as the API."""
        catalog = load_catalog(self._config.models, {}, formats=TRANSLATORS)
        with _api_errors_as_failures():
            new = parse_new_key(
                msgspec.json.encode(body),
                defaults=default_limits(self._config.keys),
                catalog_models=catalog.models,
            )
            key, secret = await self._keys.create(new)
        return _shown(key_with_secret(key, secret))

    async def revoke(self, key_id: str) -> dict[str, Any]:
        """Revoke a key permanently."""
        with _api_errors_as_failures():
            return _shown(key_object(await self._keys.revoke(key_id)))

    async def rotate(self, key_id: str, grace_s: int) -> dict[str, Any]:
        """Replace the secret of a key."""
        with _api_errors_as_failures():
            grace_s = parse_rotation(msgspec.json.encode({"grace_s": grace_s}))
            key, secret = await self._keys.rotate(key_id, grace_s)
        return _shown(key_with_secret(key, secret))

    async def invite(self, body: dict[str, Any]) -> dict[str, Any]:
        """Make an invitation with the same checks as the API."""
        with _api_errors_as_failures():
            new = parse_invitation(msgspec.json.encode(body))
            key, made = await self._invitations.invite_holder(
                new.key_id, lasts_s=new.expires_in_s, gives_key=new.gives_key
            )
        server = self._config.server
        base_url = server.base_url or f"http://{server.host}:{server.port}"
        url = base_url + made.path
        return _shown(invitation_with_link(made.invitation, key, time.time(), url))

    async def invitations(self) -> Sequence[dict[str, Any]]:
        """Return the newest invitations."""
        rows = await self._invitations.list()
        keys = await self._keys.find_all({row.key_id for row in rows})
        now = time.time()
        return [_shown(invitation_object(row, keys.get(row.key_id), now)) for row in rows]

    async def end_invitation(self, invitation_id: str) -> dict[str, Any]:
        """Revoke an invitation, if it is open."""
        with _api_errors_as_failures():
            await self._invitations.revoke(invitation_id)
            row = await self._invitations.get(invitation_id)
        keys = await self._keys.find_all((row.key_id,))
        return _shown(invitation_object(row, keys.get(row.key_id), time.time()))


def _shown(shape: KeyObject | InvitationObject) -> dict[str, Any]:
    """Return an object of the API as its JSON is decoded."""
    shown: dict[str, Any] = msgspec.to_builtins(shape)
    return shown


@contextlib.contextmanager
def _api_errors_as_failures() -> Iterator[None]:
    try:
        yield
    except GatewayError as error:
        raise CommandFailure(error.message, code=error.code, param=error.param) from error


class GatewayKeys:
    """Change keys through the API of the running gateway."""

    def __init__(self, url: str, secret: str) -> None:
        self._url = f"{url}/api/v1/"
        self._headers = {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"}

    async def list(self) -> AsyncIterator[list[dict[str, Any]]]:
        """Return every key, a page at a time."""
        query, more = f"?limit={PAGE_KEYS}", True
        while more:
            page = await self._fetch("GET", query)
            if page["data"]:
                yield page["data"]
            more = page["has_more"]
            query = f"?limit={PAGE_KEYS}&after={page['last_id']}"

    async def find(self, text: str) -> Sequence[dict[str, Any]]:
        """Return some of the keys whose name, note, redacted secret or id contains a text."""
        page = await self._fetch("GET", f"?limit={MAX_FOUND}&search={_path_segment(text)}")
        return [key for key in page["data"] if key["status"] != "revoked"]

    async def get(self, key_id: str) -> dict[str, Any]:
        """Return one key."""
        return await self._fetch("GET", f"/{_path_segment(key_id)}")

    async def create(self, body: dict[str, Any]) -> dict[str, Any]:
        """Create a key."""
        return await self._fetch("POST", "", body)

    async def revoke(self, key_id: str) -> dict[str, Any]:
        """Revoke a key permanently."""
        return await self._fetch("DELETE", f"/{_path_segment(key_id)}")

    async def rotate(self, key_id: str, grace_s: int) -> dict[str, Any]:
        """Replace the secret of a key."""
        return await self._fetch("POST", f"/{_path_segment(key_id)}/rotate", {"grace_s": grace_s})

    async def invite(self, body: dict[str, Any]) -> dict[str, Any]:
        """Make an invitation."""
        return await self._fetch("POST", "", body, of=INVITATIONS)

    async def invitations(self) -> Sequence[dict[str, Any]]:
        """Return the newest invitations."""
        listed: list[dict[str, Any]] = (await self._fetch("GET", "", of=INVITATIONS))["data"]
        return listed

    async def end_invitation(self, invitation_id: str) -> dict[str, Any]:
        """Revoke an invitation, if it is open."""
        return await self._fetch("DELETE", f"/{_path_segment(invitation_id)}", of=INVITATIONS)

    async def _fetch(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, of: str = KEYS
    ) -> dict[str, Any]:
        client = AsyncHTTPClient()
        try:
            answer = await client.fetch(
                self._url + of + path,
                method=method,
                headers=self._headers,
                body=msgspec.json.encode(body) if body is not None else None,
                follow_redirects=False,
                # The lock file names a loopback address; the certificate is for a host name.
                validate_cert=False,
            )
        except HTTPClientError as error:
            raise _failure(error) from error
        except OSError as error:
            raise CommandFailure(
                f"The running gateway does not answer at {self._url}{of}: {error}"
            ) from error
        finally:
            client.close()
        decoded: dict[str, Any] = msgspec.json.decode(answer.body)
        return decoded


def _path_segment(key_id: str) -> str:
    """Quote any text as one segment of a path."""
    return quote(key_id, safe="", errors="surrogateescape")


def _failure(error: HTTPClientError) -> CommandFailure:
    """Read the API's error from an answer."""
    if error.code in (401, 403):
        return CommandFailure(
            "The running gateway refused: ROXY_ADMIN_API_KEY is not its owner key."
        )
    try:
        sent = msgspec.json.decode(error.response.body)["error"]  # type: ignore[union-attr]
        return CommandFailure(str(sent["message"]), code=sent["code"], param=sent["param"])
    except (AttributeError, KeyError, TypeError, msgspec.DecodeError):
        # A time-out (Tornado's code 599), or another server that now listens at this address.
        return CommandFailure(f"The running gateway did not do it: {error}.")
