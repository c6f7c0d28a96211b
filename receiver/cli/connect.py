"""Finds the server and its admin token: in the environment, else in the settings and database of this machine."""

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from receiver.client import Client
    from receiver.model.announcement import Announcement
    from receiver.server.settings import Settings

URL_VARIABLE = "RECEIVER_URL"
TOKEN_VARIABLE = "RECEIVER_ADMIN_TOKEN"
ADMIN_TOKEN = "admin_token"


class Found(NamedTuple):
    """A server's URL and the admin token for it, None when none is known. Where it has to prove first that it is the
    server of this machine, `known` reads what that left here; None: whoever named the URL vouches for it.
    """

    url: str
    token: str | None
    known: "Callable[[], Announcement] | None" = None


def connect() -> "Client":
    """A client for the server that the environment names, else the one of this machine. Raises SettingsError."""
    from receiver.client import Client, Proving

    url, token, known = find_server(os.environ, Path.cwd())
    if known is None:
        return Client(url, token, door="cli")
    return Client(url, proving=Proving(url, token, known), door="cli")


def find_server(environment: Mapping[str, str], directory: Path) -> Found:
    """The server that is meant, and its admin token. Raises SettingsError.

    A token is sent unasked only where a person has named the server: anything else has to prove itself.
    """
    from receiver.model.errors import SettingsError
    from receiver.model.redaction import MASK

    url, token = environment.get(URL_VARIABLE), environment.get(TOKEN_VARIABLE)
    if url and not _is_url(url):
        raise SettingsError([f"{URL_VARIABLE}: expected an http:// or https:// address, got {url!r}"])
    found = Found(url, token) if url and token else _found_here(url, environment, directory)
    if found.token is not None and not found.token.isprintable():
        raise SettingsError([f"{TOKEN_VARIABLE}: expected a token without line ends, got {MASK}"])
    return found


def _found_here(url: str | None, environment: Mapping[str, str], directory: Path) -> Found:
    """The server by the settings here. With both given they are not read: a laptop may have none, or others."""
    from receiver.server.address import address_file, announced
    from receiver.server.settings import load_settings
    from receiver.store import local_place

    settings = load_settings(environment, directory)
    known = partial(announced, address_file(directory / local_place(settings.database)))
    left = _left(known)
    given = settings.admin_token
    if url is None or (given is None and left is not None and _is_same(url, left.url)):
        here = left.url if left else _configured_address(settings)
        return Found(here, given or made_token(settings, directory), known)
    if given is None and _is_public(url, settings):
        given = made_token(settings, directory)
    return Found(url, given)


def database_file(settings: "Settings", directory: Path) -> Path:
    """The file of the configured database. Raises SettingsError when it is no file."""
    from receiver.store import database_path

    return directory / database_path(settings.database)


def made_token(settings: "Settings", directory: Path) -> str | None:
    """The admin token that was generated in the database; None when there is no such database here."""
    from receiver.store import is_server
    from receiver.store.sqlite.offline import read_secret

    return None if is_server(settings.database) else read_secret(database_file(settings, directory), ADMIN_TOKEN)


def _left(known: "Callable[[], Announcement]") -> "Announcement | None":
    from receiver.server.address import NotAnnounced

    try:
        return known()
    except NotAnnounced:
        return None


def _configured_address(settings: "Settings") -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    return f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"


def _is_same(url: str, left: str) -> bool:
    """Whether a URL, however it is written, may be the one that a server of this machine has left."""
    from receiver.egress.addresses import is_here

    given, own = urlsplit(url), urlsplit(left)
    host = given.hostname or ""
    return given.scheme == own.scheme and given.port == own.port and (host == "localhost" or is_here(host))


def _is_public(url: str, settings: "Settings") -> bool:
    """Whether a URL's host is the public name of this server, which the token in its database may be sent to."""
    from receiver.egress.addresses import is_near

    host = urlsplit(url).hostname or ""
    return host == urlsplit(settings.public_url or "").hostname and not is_near(host)


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and text.isprintable()
