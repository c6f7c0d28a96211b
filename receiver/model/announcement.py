"""What a running server leaves beside its database, and how it proves that it is the one that left it. Pure.

Anybody may listen at the port of a server that has ended, and anybody's archive may hold a file that names a port. So
the command line sends a challenge before the admin token. The answer needs the key, which only the server and its
owner can read, and the token itself: neither a planted file nor a stranger at the port is enough. The key keeps those
who may send challenges, which is everybody, from trying tokens on the answers.
"""

import hmac

import msgspec
from msgspec import Struct


class Announcement(Struct, frozen=True, kw_only=True):
    """The URL of a server, a secret `key` of its own, its process, and `since` when it runs, in seconds since 1970."""

    url: str
    key: str
    pid: int
    since: float

    def proof(self, token: str, challenge: str) -> str:
        """What answers a challenge. The URL is in it, so that the answer cannot be passed on from another port."""
        said = msgspec.json.encode([self.url, challenge, token])
        return hmac.new(self.key.encode(), said, "sha256").hexdigest()
