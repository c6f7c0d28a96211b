"""The action that POSTs the event, or a body made of it; with a secret, signed by the Standard Webhooks scheme."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct
from standardwebhooks import Webhook
from standardwebhooks.webhooks import EmptyWebhookSecretError

from receiver.actions import ActionFailed, Done, Work, readable
from receiver.actions.body import at, filled, secrets_in
from receiver.actions.settings import HttpDefinition
from receiver.egress.answers import failure_class, is_worth_retrying, wait_asked
from receiver.egress.client import Answer, Egress, EgressFailed, EgressRefused
from receiver.model.records import Json, JsonObject
from receiver.model.redaction import MASK, SHORTEST

ANSWER_KEPT = 1024
ANSWER_READ = 64 * 1024
"""Bytes of an answer that is looked into."""
SAID_KEPT = 300
"""Characters of an answer that says no."""
LONGEST_WAIT = 86400.0

_FRAMING = frozenset({"content-length", "transfer-encoding", "connection", "te", "upgrade", "expect"})


class Poster(Struct, frozen=True):
    """Done is any 2xx that says what it should; the answer decides whether another attempt makes sense."""

    egress: Egress
    clock: Callable[[], float]

    async def __call__(self, work: Work) -> Done:
        definition = work.definition
        assert isinstance(definition, HttpDefinition)
        document = work.body if definition.body is None else filled(definition.body, work.body)
        body = msgspec.json.encode(document)
        started = self.clock()
        headers = _headers(definition, work.key, body, started)
        allowed, timeout, most = (
            definition.allow_private,
            definition.timeout,
            ANSWER_READ if definition.expect else None,
        )
        try:
            answer = await self.egress.post(
                definition.url, body, headers, allow_private=allowed, timeout=timeout, most=most
            )
        except (EgressRefused, EgressFailed) as error:
            permanent = isinstance(error, EgressRefused)
            raise ActionFailed(str(error), permanent=permanent, category=error.category) from error
        now = self.clock()
        detail: JsonObject = {
            "status": answer.status,
            "seconds": round(max(0.0, now - started), 3),
            "answer": _shown(answer.body_start, definition, headers),
        }
        return _judged(answer, definition, now, detail)


def signed(secret: str, key: str, body: bytes, now: float) -> dict[str, str]:
    """The three headers that prove where `body` comes from."""
    moment = datetime.fromtimestamp(int(now), UTC)
    try:
        signature = Webhook(secret).sign(key, moment, body.decode())
    except (EmptyWebhookSecretError, ValueError):
        raise ActionFailed("`secret` is not a Standard Webhooks secret (whsec_ and base64)", permanent=True) from None
    return {"webhook-id": key, "webhook-timestamp": str(int(now)), "webhook-signature": signature}


def _headers(definition: HttpDefinition, key: str, body: bytes, now: float) -> dict[str, str]:
    """Configured headers may replace the content type, never the key, the signature or the framing."""
    configured = {name.lower(): value for name, value in definition.headers.items() if name.lower() not in _FRAMING}
    proof = {} if definition.secret is None else signed(definition.secret, key, body, now)
    return {"content-type": "application/json", **configured, "idempotency-key": key, **proof}


def _judged(answer: Answer, definition: HttpDefinition, now: float, detail: JsonObject) -> Done:
    status, expect = answer.status, definition.expect
    reason = f"{urlsplit(definition.url).hostname} answered {status}"
    if 200 <= status <= 299:
        if (missing := _unmet(expect, answer.body_start)) is not None:
            said = str(detail["answer"])[:SAID_KEPT]
            raise ActionFailed(f"{reason}, but not {missing}: {said}", detail=detail)
        return Done(detail=detail)
    if status == 410:
        reason += ": it asked us to stop"
    if 300 <= status <= 399:
        reason += ", a redirect; set `url` to the address it leads to"
    again = is_worth_retrying(status)
    wait = wait_asked(answer.headers, now, longest=LONGEST_WAIT) if again else None
    raise ActionFailed(reason, permanent=not again, retry_after=wait, category=failure_class(status), detail=detail)


def _unmet(expect: JsonObject, body: bytes) -> str | None:
    """The first thing that the JSON of an answer does not say as expected; None when it says all."""
    try:
        told: Json = msgspec.json.decode(body) if expect else None
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        told = None
    for path, wanted in expect.items():
        found = at(told, path)
        if found != wanted or isinstance(found, bool) != isinstance(wanted, bool):
            return f"{path} = {msgspec.json.encode(wanted).decode()}"
    return None


def _shown(start: bytes, definition: HttpDefinition, headers: Mapping[str, str]) -> str:
    """The first bytes of an answer as text, without what we sent in confidence: some receivers echo."""
    text = readable(start)
    for secret in _confidential(definition, headers):
        text = text.replace(secret, MASK)
    return text.encode()[:ANSWER_KEPT].decode(errors="ignore")


def _confidential(definition: HttpDefinition, headers: Mapping[str, str]) -> list[str]:
    """Longest first, so that a part does not hide the whole."""
    values = [definition.secret or "", headers.get("webhook-signature", "")]
    with suppress(ValueError):
        parts = urlsplit(definition.url)
        values += [parts.path, parts.query, parts.username or "", parts.password or ""]
    values += secrets_in(definition.body)
    for value in definition.headers.values():
        values += [value, *value.split()]
    return sorted({value for value in values if len(value) >= SHORTEST}, key=len, reverse=True)
