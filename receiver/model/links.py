"""Signed callback URLs: what a token says, who signed it, and nothing else. Owns itsdangerous.

A token is a capability: it proves that the URL is ours, not that what is posted to it is true. The provider stores the
URL and proxies log it, so a token's text is never logged, and never used as a key: several texts decode to one token.
"""

import hashlib
from collections.abc import Sequence
from urllib.parse import urlsplit

from itsdangerous import BadData, Signer, URLSafeSerializer
from msgspec import Struct

from receiver.model.records import Purpose

CALLBACK_SALT = "receiver.callback.v1"
TOKEN_LIMIT = 512
"""Characters; a real token has about 100. Longer ones are not even hashed."""


class Link(Struct, frozen=True):
    """What a token says: whose callback it is, and what the URL was issued for."""

    task_id: str
    purpose: Purpose


class Links:
    """Issues and reads callback URLs. `secrets` stand newest first; all of them are accepted.

    `public_url` is where the provider reaches us; without it no URL can be issued, but tokens can still be read.
    """

    def __init__(self, secrets: Sequence[str], public_url: str | None) -> None:
        self._public_url = public_url.rstrip("/") if public_url else None
        self.accept(secrets)

    def accept(self, secrets: Sequence[str]) -> None:
        """These are the secrets from now on; the first one signs."""
        if not secrets:
            raise ValueError("at least one secret is needed to sign callback URLs")
        # itsdangerous signs with the LAST of a list; our lists stand newest first.
        self._serializer = URLSafeSerializer(
            list(reversed(secrets)),
            salt=CALLBACK_SALT,
            signer_kwargs={"digest_method": hashlib.sha256, "key_derivation": "hmac"},
        )
        # The same keys, derived once: the serializer derives them anew for every token that it reads.
        signer = self._serializer.make_signer()
        keys = [signer.derive_key(secret) for secret in signer.secret_keys]
        self._reader = Signer(keys, CALLBACK_SALT, digest_method=hashlib.sha256, key_derivation="none")

    @property
    def can_issue(self) -> bool:
        return self._public_url is not None

    def token(self, task_id: str, purpose: Purpose) -> str:
        """A token for the task and purpose, signed with the newest secret."""
        token = self._serializer.dumps([task_id, purpose.value])
        return token if isinstance(token, str) else token.decode()

    def issue(self, task_id: str, purpose: Purpose) -> str | None:
        """The callback URL to hand to the provider, or None when there is no public URL."""
        if self._public_url is None:
            return None
        return f"{self._public_url}/callbacks/{self.token(task_id, purpose)}"

    def read(self, token: str) -> Link | None:
        """What a token says, or None when none of our secrets signed it. Never raises, whatever the text."""
        if len(token) > TOKEN_LIMIT or not token.isascii():
            return None
        try:
            said = self._serializer.load_payload(self._reader.unsign(token))
        except (BadData, ValueError, RecursionError):
            return None
        match said:
            case [str(task_id), ("submit" | "resend") as purpose]:
                return Link(task_id, Purpose(purpose))
        return None

    def read_url(self, url: str) -> Link | None:
        """What the token in a callback URL says; the host is not compared, since public URLs move."""
        try:
            path = urlsplit(url).path
        except ValueError:
            return None
        return self.read(path.rpartition("/")[2])
