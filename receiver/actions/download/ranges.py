"""Going on with a file where it broke off: whose bytes are there, what to ask for, what the answer means. Pure.

RFC 9110: a range may only be joined to bytes that came under the same strong validator (sections 13.1.5, 15.3.7).
"""

import hashlib
import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from urllib.parse import parse_qsl, urlencode, urlsplit

from msgspec import Struct

_STRONG = re.compile(r'"[\x21\x23-\x7e]{1,500}"')
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", re.IGNORECASE)
_UNSATISFIED = re.compile(r"bytes \*/(\d{1,18})", re.IGNORECASE)
_SIGNING = re.compile(
    r"q-.*|x-[a-z]+-.*|(oss|aws)?accesskeyid|googleaccessid|key-pair-id|policy|signature|sig|sign|expires|token",
    re.IGNORECASE,
)
"""Parts of a query that change with every signing of the same link, in the ways of the common storages."""
_SETTLED = 1.0
"""Seconds a file must have been unchanged for its date to tell it from its next version (section 8.8.2.2)."""
PARTIAL = frozenset({206, 416})
CHANGED = "the file behind the link has changed"
UNFIT = "the answer does not go on where the bytes that were here end"
WHOLE = "the server sends only the whole file"


class Origin(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which file bytes belong to: a digest of its link without the signature, its strong validator as If-Range wants
    it (None: it cannot be continued), and its bytes in total when that is known."""

    link: str
    validator: str | None
    total: int | None


def link_identity(url: str) -> str:
    """The same text for the same link however often it was signed anew; it does not show the link."""
    try:
        parts = urlsplit(url)
        query = [pair for pair in parse_qsl(parts.query, keep_blank_values=True) if not _SIGNING.fullmatch(pair[0])]
        named = f"{parts.scheme}://{parts.hostname}:{parts.port}{parts.path}?{urlencode(query)}"
    except ValueError:
        named = url
    return hashlib.sha256(named.encode(errors="replace")).hexdigest()


def origin_of(link: str, headers: Mapping[str, str], length: int | None, now: float) -> Origin:
    """What a whole answer says of its file. `headers` have lower-case names, `length` is its bytes, None: unknown."""
    encoded = headers.get("content-encoding", "identity") != "identity"
    refused = headers.get("accept-ranges", "").strip().lower() == "none"
    return Origin(link=link, validator=None if encoded or refused else _validator(headers, now), total=length)


def asking(origin: Origin, size: int) -> dict[str, str]:
    """The headers that ask for everything after the first `size` bytes, if it is the same file yet."""
    assert origin.validator is not None
    return {"Range": f"bytes={size}-", "If-Range": origin.validator}


def judge(origin: Origin, size: int, status: int, headers: Mapping[str, str], length: int | None) -> int | str:
    """The file's size, when an answer (200, 206 or 416) of `length` bytes (None: unknown) to `asking` goes on after
    the first `size` bytes, or says that these are all; else why the file must be begun anew."""
    if status == 200:
        return CHANGED if _differs(origin, headers, length) else WHOLE
    pattern = _CONTENT_RANGE if status == 206 else _UNSATISFIED
    found = pattern.fullmatch(headers.get("content-range", "").strip())
    if found is None:
        return UNFIT
    total = int(found[found.re.groups])
    if _differs(origin, headers, total):
        return CHANGED
    if status == 416:
        return total if total == size else UNFIT
    plain = headers.get("content-encoding", "identity") == "identity"
    return total if plain and int(found[1]) == size <= int(found[2]) < total else UNFIT


def _differs(origin: Origin, headers: Mapping[str, str], total: int | None) -> bool:
    """Whether an answer is about another file. What it does not say is no difference."""
    if None not in (origin.total, total) and origin.total != total:
        return True
    name = "etag" if (origin.validator or "").startswith('"') else "last-modified"
    told = headers.get(name, "").strip()
    return bool(told) and told != origin.validator


def _validator(headers: Mapping[str, str], now: float) -> str | None:
    """A strong ETag, else a Last-Modified that is strong because it is old enough."""
    etag = headers.get("etag", "").strip()
    if _STRONG.fullmatch(etag):
        return etag
    modified = headers.get("last-modified", "").strip()
    changed, told = _seconds(modified), _seconds(headers.get("date", ""))
    if changed is None or not modified.isascii() or (now if told is None else told) - changed < _SETTLED:
        return None
    return modified


def _seconds(date: str) -> float | None:
    try:
        moment = parsedate_to_datetime(date)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
