"""Finds the server and its admin token: in the environment, else in the settings and database of this machine."""

import os
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from receiver.server.address import address_file

if TYPE_CHECKING:
    from receiver.client import Client
    from receiver.server.settings import Settings

URL_VARIABLE = "RECEIVER_URL"
TOKEN_VARIABLE = "RECEIVER_ADMIN_TOKEN"
ADMIN_TOKEN = "admin_token"


def connect() -> "Client":
    """A client for the server that the environment names, else the one of this machine. Raises SettingsError."""
    from receiver.client import Client

    url, token = find_server(os.environ, Path.cwd())
    return Client(url, token)


def find_server(environment: Mapping[str, str], directory: Path) -> tuple[str, str | None]:
    """The server's URL, and the admin token or None when none is found. Raises SettingsError."""
    from receiver.model.errors import SettingsError
    from receiver.model.redaction import MASK
    from receiver.server.settings import load_settings

    url, token = environment.get(URL_VARIABLE), environment.get(TOKEN_VARIABLE)
    if url and not _is_url(url):
        raise SettingsError([f"{URL_VARIABLE}: expected an http:// or https:// address, got {url!r}"])
    if not (url and token):
        # With both given nothing else is needed, and a laptop may have no settings, or others.
        settings = load_settings(environment, directory)
        url = url or _announced_address(database_file(settings, directory)) or _configured_address(settings)
        token = settings.admin_token
        if token is None and _is_own_server(url, settings):
            token = made_token(settings, directory)
    if token is not None and not token.isprintable():
        raise SettingsError([f"{TOKEN_VARIABLE}: expected a token without line ends, got {MASK}"])
    return url, token


def database_file(settings: "Settings", directory: Path) -> Path:
    """The file of the configured database."""
    from receiver.store import database_path

    return directory / database_path(settings.database)


def made_token(settings: "Settings", directory: Path) -> str | None:
    """The admin token that was generated in the database; None when there is no such database here."""
    from receiver.store.sqlite.offline import read_secret

    return read_secret(database_file(settings, directory), ADMIN_TOKEN)


def _announced_address(database: Path) -> str | None:
    """The address that a running server wrote beside its database."""
    try:
        address = address_file(database).read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None
    return address if _is_url(address) else None


def _configured_address(settings: "Settings") -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    return f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"


def _is_own_server(url: str, settings: "Settings") -> bool:
    """Whether the URL is this machine's server, so that the token in the local database may be sent there."""
    host = urlsplit(url).hostname or ""
    try:
        local = ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    named = {settings.host, urlsplit(settings.public_url or "").hostname}
    return local or host in named


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and text.isprintable()
