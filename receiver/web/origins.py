"""Where a browser's request comes from, and by which name it reached us: what another site sends is refused.

A browser sends the cookie of a session with requests that other sites make. It says where they come from in headers
that no page can change, so these are looked at instead of tokens in forms.
"""

import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from receiver.model.errors import Refused

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
PORTS = {"http": 80, "https": 443}


class Origins:
    """The names of this server. An IP address is always one of them: only names can be made to point here by others."""

    def __init__(self, public_url: str | None, hosts: Iterable[str]) -> None:
        public = urlsplit(public_url or "")
        self._public = public if public.hostname else None
        self._names = {host.lower().rstrip(".") for host in (*hosts, public.hostname or "") if host}

    def is_secure(self, scheme: str, headers: Headers) -> bool:
        """Whether the browser speaks TLS, perhaps to a proxy before us."""
        public = self._public
        behind = public is not None and public.scheme == "https" and _host(headers) == (public.hostname or "").lower()
        return scheme == "https" or behind

    def refuse_strange_host(self, headers: Headers) -> None:
        """Raises Refused (421) for a name that is not known: another site may have made it point to this machine."""
        host = _host(headers)
        if not (host == "localhost" or host.endswith(".localhost") or host in self._names or _is_address(host)):
            remedy = "open it by an address of public_url, by localhost, or add this name to `hosts` in the settings"
            raise Refused(421, "strange_host", f"this server is not known as {host[:100] or 'nothing'}; {remedy}")

    def refuse_cross_site(self, method: str, headers: Headers) -> None:
        """Raises Refused (403) for what another site makes a browser do."""
        site = headers.get("sec-fetch-site")
        if method not in SAFE:
            if site in ("same-origin", "none") or (site is None and self._is_own(headers)):
                return
            raise Refused(403, "cross_site", "this was sent from another site, or does not say from where")
        visit = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
        if site == "cross-site" and not visit:
            raise Refused(403, "cross_site", "another site may link to this, but not load it")

    def _is_own(self, headers: Headers) -> bool:
        """Whether `Origin` is what `Host` says, or the public URL. On plain HTTP browsers leave Sec-Fetch-Site out."""
        origin = _parts(headers.get("origin", ""))
        if origin is None:
            return False
        scheme, name, port = origin
        own = {_parts(f"{scheme}://{headers.get('host', '')}")}
        if self._public is not None:
            own.add(_parts(f"{self._public.scheme}://{self._public.netloc}"))
        return (scheme, name, port) in own


def _parts(origin: str) -> tuple[str, str, int | None] | None:
    try:
        parts = urlsplit(origin)
        if parts.scheme not in PORTS or not parts.hostname or parts.path or parts.query:
            return None
        return parts.scheme, parts.hostname, parts.port or PORTS[parts.scheme]
    except ValueError:
        return None


def _host(headers: Headers) -> str:
    """The name or address in `Host`, without its port."""
    try:
        return (urlsplit(f"//{headers.get('host', '')}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
