"""Finds the server and its admin token: from the environment, else from what the server left on this machine."""

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
    """A client of the server this command is meant for. Raises SettingsError."""
    from receiver.client import Client

    url, token = find_server(os.environ, Path.cwd())
    return Client(url, token)


def find_server(environment: Mapping[str, str], directory: Path) -> tuple[str, str | None]:
    """The server's URL and the admin token; None when there is none to be found. Raises SettingsError."""
    from receiver.server.settings import load_settings

    named = environment.get(URL_VARIABLE)
    if named:
        _refuse_unusable(URL_VARIABLE, named)
        if token := environment.get(TOKEN_VARIABLE):
            # Nothing else is needed, and a laptop may have no settings, or others.
            return _sound(named, token)
    settings = load_settings(environment, directory)
    url = named or _left_address(database_file(settings, directory)) or _own_address(settings)
    token = settings.admin_token
    if token is None and _is_ours(url, settings):
        token = made_token(settings, directory)
    return _sound(url, token)


def database_file(settings: "Settings", directory: Path) -> Path:
    """The file of the configured database."""
    from receiver.store import database_path

    return directory / database_path(settings.database)


def made_token(settings: "Settings", directory: Path) -> str | None:
    """The admin token that the database made for itself; None when there is no such database here."""
    from receiver.store.sqlite.offline import read_secret

    return read_secret(database_file(settings, directory), ADMIN_TOKEN)


def _left_address(database: Path) -> str | None:
    try:
        left = address_file(database).read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None
    return left if _is_url(left) else None


def _own_address(settings: "Settings") -> str:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)
    return f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"


def _is_ours(url: str, settings: "Settings") -> bool:
    """Whether the token of the local database may be sent there: another machine must not learn it."""
    host = urlsplit(url).hostname or ""
    try:
        local = ip_address(host).is_loopback
    except ValueError:
        local = host == "localhost"
    named = {settings.host, urlsplit(settings.public_url or "").hostname}
    return local or host in named


def _sound(url: str, token: str | None) -> tuple[str, str | None]:
    if token is not None and not token.isprintable():
        from receiver.model.errors import SettingsError
        from receiver.model.redaction import MASK

        raise SettingsError([f"{TOKEN_VARIABLE}: expected a token without line ends, got {MASK}"])
    return url, token


def _refuse_unusable(variable: str, url: str) -> None:
    if not _is_url(url):
        from receiver.model.errors import SettingsError

        raise SettingsError([f"{variable}: expected an http:// or https:// address, got {url!r}"])


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname) and text.isprintable()
