"""The action that POSTs the event to a URL, signed by the Standard Webhooks scheme when it has a secret."""

import binascii
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from urllib.parse import urlsplit

import msgspec
from standardwebhooks import Webhook
from standardwebhooks.webhooks import EmptyWebhookSecretError

from receiver.actions import ActionFailed, Done, Work
from receiver.actions.answers import is_worth_retrying, wait_asked
from receiver.actions.egress import Answer, Egress, EgressFailed, EgressRefused
from receiver.records import Definition, JsonObject

ANSWER_KEPT = 1024
LONGEST_WAIT = 86400.0

_FRAMING = frozenset({"content-length", "transfer-encoding", "connection", "te", "upgrade", "expect"})
_SHORTEST_SECRET = 6


class Poster:
    """Done is any 2xx; the answer decides whether another try makes sense."""

    def __init__(self, egress: Egress, clock: Callable[[], float]) -> None:
        self._egress = egress
        self._clock = clock

    async def __call__(self, work: Work) -> Done:
        definition = work.definition
        body = msgspec.json.encode(work.body)
        started = self._clock()
        headers = _headers(work, body, started)
        try:
            answer = await self._egress.post(
                definition.url,
                body,
                headers,
                allow_private=definition.allow_private,
                timeout=definition.timeout,
            )
        except EgressRefused as error:
            raise ActionFailed(str(error), permanent=True) from error
        except EgressFailed as error:
            raise ActionFailed(str(error)) from error
        now = self._clock()
        detail: JsonObject = {
            "status": answer.status,
            "seconds": round(max(0.0, now - started), 3),
            "answer": _shown(answer.body_start, definition, headers),
        }
        return _judged(answer, now, detail)


def signed(secret: str, key: str, body: bytes, now: float) -> dict[str, str]:
    """The three headers that prove where `body` comes from."""
    moment = datetime.fromtimestamp(int(now), UTC)
    try:
        signature = Webhook(secret).sign(key, moment, body.decode())
    except (EmptyWebhookSecretError, binascii.Error, ValueError):
        raise ActionFailed("`secret` is not a Standard Webhooks secret (whsec_ and base64)", permanent=True) from None
    return {"webhook-id": key, "webhook-timestamp": str(int(now)), "webhook-signature": signature}


def _headers(work: Work, body: bytes, now: float) -> dict[str, str]:
    """Configured headers may replace the content type, never the key, the signature or the framing."""
    headers = {"content-type": "application/json"}
    configured = {name.lower(): value for name, value in work.definition.headers.items()}
    headers.update((name, value) for name, value in configured.items() if name not in _FRAMING)
    headers["idempotency-key"] = work.key
    if work.definition.secret is not None:
        headers.update(signed(work.definition.secret, work.key, body, now))
    return headers


def _judged(answer: Answer, now: float, detail: JsonObject) -> Done:
    status = answer.status
    if 200 <= status <= 299:
        return Done(detail=detail)
    if status == 410:
        raise ActionFailed("the receiver answered 410: it asked us to stop", permanent=True, detail=detail)
    if is_worth_retrying(status):
        wait = wait_asked(answer.headers, now, longest=LONGEST_WAIT)
        raise ActionFailed(f"the receiver answered {status}", retry_after=wait, detail=detail)
    if 300 <= status <= 399:
        reason = f"the receiver answered {status}, a redirect; set `url` to the address it leads to"
        raise ActionFailed(reason, permanent=True, detail=detail)
    raise ActionFailed(f"the receiver answered {status}", permanent=True, detail=detail)


def _shown(start: bytes, definition: Definition, headers: Mapping[str, str]) -> str:
    """The first bytes of an answer as text, without what we sent in confidence: some receivers echo."""
    text = start.decode(errors="replace").replace("\x00", "")
    for secret in _confidential(definition, headers):
        text = text.replace(secret, "***")
    return text.encode()[:ANSWER_KEPT].decode(errors="ignore")


def _confidential(definition: Definition, headers: Mapping[str, str]) -> list[str]:
    """Longest first, so that a part does not hide the whole."""
    values = [definition.secret or "", headers.get("webhook-signature", "")]
    with suppress(ValueError):
        parts = urlsplit(definition.url)
        values += [parts.path, parts.query, parts.username or "", parts.password or ""]
    for value in definition.headers.values():
        values += [value, *value.split()]
    return sorted({value for value in values if len(value) >= _SHORTEST_SECRET}, key=len, reverse=True)
