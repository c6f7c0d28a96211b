"""Sessions of the console: who may do what, for how long, and how that is written into a cookie. Pure."""

import hashlib
from collections.abc import Sequence
from enum import StrEnum

from itsdangerous import BadData, URLSafeSerializer
from msgspec import Struct
from msgspec.structs import replace

SALT = "receiver.session.v1"
TEXT_LIMIT = 512
"""Characters of a cookie; a real one has about 150. Longer ones are not even hashed."""
IDLE = 12 * 3600.0
"""Seconds after which a session that nobody used has ended: a working day, and not the next morning."""
LONGEST = 7 * 86400.0
"""Seconds after which a session has ended however it is used."""
RENEWED = 600.0
"""Seconds after which a session that is used is written down anew: not with every answer."""
FREE_TRIES = 5
"""Wrong tokens of one address that are looked at at once: somebody pastes the wrong one."""
LONGEST_WAIT = 60.0
"""Seconds that an address waits at the most after a wrong token: first one second, then twice as long each time."""
TRIES_FORGOTTEN = 3600.0
"""Seconds after the last wrong token after which an address begins anew."""
WRONG_A_MINUTE = 20
"""Wrong tokens of programs at one address in a minute that are answered 401; after them it is 429."""
ADDRESSES = 4096
"""Addresses that are remembered for their wrong tokens, so that they cannot fill the memory."""
TOKEN_ADVISED = 24
"""Characters of a token below which it is worth a warning: against guessing only length helps."""


class Role(StrEnum):
    """What somebody may do: everything, or look."""

    ADMIN = "admin"
    VIEW = "view"


class Session(Struct, frozen=True, kw_only=True):
    """Somebody who signed in. `began` and `seen` in seconds since 1970; it ends with its `epoch`."""

    id: str
    role: Role
    epoch: int
    began: float
    seen: float

    def used(self, now: float) -> "Session | None":
        """The session as it is to be written down anew; None while that is not due."""
        return replace(self, seen=now) if now - self.seen >= RENEWED else None


class Sessions:
    """Writes sessions into cookies and reads them. Whoever changes one of the `tokens` ends all of them."""

    def __init__(self, tokens: Sequence[str | None]) -> None:
        key = hashlib.sha256("\n".join(token or "" for token in tokens).encode()).digest()
        self._serializer = URLSafeSerializer(
            key, salt=SALT, signer_kwargs={"digest_method": hashlib.sha256, "key_derivation": "hmac"}
        )

    def write(self, session: Session) -> str:
        text = self._serializer.dumps([session.id, session.role.value, session.epoch, session.began, session.seen])
        return text if isinstance(text, str) else text.decode()

    def read(self, text: str, now: float, epoch: int) -> Session | None:
        """The session in a cookie; None when it is none of ours, or has ended. Never raises, whatever the text."""
        if len(text) > TEXT_LIMIT or not text.isascii():
            return None
        try:
            said = self._serializer.loads(text)
        except (BadData, ValueError, RecursionError):
            return None
        match said:
            case [str(name), ("admin" | "view") as role, int(of), int() | float() as began, int() | float() as seen]:
                session = Session(id=name, role=Role(role), epoch=of, began=began, seen=seen)
                ended = of != epoch or now - seen > IDLE or now - began > LONGEST
                return None if ended else session
        return None
