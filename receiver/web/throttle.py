"""How often somebody may try a wrong token. Addresses are remembered, a bounded number of them."""

import ipaddress
from collections import OrderedDict
from typing import Generic, TypeVar

from msgspec import Struct
from starlette.types import Scope

from receiver.model import sessions

T = TypeVar("T")


def address_of(scope: Scope) -> str:
    """Who asks. Of IPv6 the network: whoever has one address of it has all of them."""
    host = (scope.get("client") or ("", 0))[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return str(host)
    if address.version == 4:
        return host
    mapped = ipaddress.IPv6Address(int(address)).ipv4_mapped
    return str(mapped or ipaddress.ip_network((int(address), 64), strict=False))


class _Remembered(Generic[T]):
    """The newest addresses, each with something."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, T] = OrderedDict()

    def get(self, address: str) -> T | None:
        return self._known.get(address)

    def put(self, address: str, value: T) -> None:
        self._known[address] = value
        self._known.move_to_end(address)
        if len(self._known) > sessions.ADDRESSES:
            self._known.popitem(last=False)

    def forget(self, address: str) -> None:
        self._known.pop(address, None)

    def __len__(self) -> int:
        return len(self._known)


class _Tries(Struct, frozen=True):
    count: int
    last: float
    wait: float


class FormThrottle:
    """The form, where people sign in: after some wrong tokens an address waits, and longer each time."""

    def __init__(self) -> None:
        self.addresses: _Remembered[_Tries] = _Remembered()

    def wait(self, address: str, now: float) -> float:
        """Seconds for which nothing of this address is looked at; 0: it may try."""
        tries = self.addresses.get(address)
        if tries is None or now < tries.last:  # the clock was set back
            return 0.0
        return max(0.0, tries.last + tries.wait - now)

    def failed(self, address: str, now: float) -> int:
        """Counts a wrong token. Returns how many more are looked at without a wait."""
        before = self.addresses.get(address)
        old = before is None or now - before.last > sessions.TRIES_FORGOTTEN
        count = 1 if before is None or old else before.count + 1
        late = count - sessions.FREE_TRIES
        wait = min(sessions.LONGEST_WAIT, 2.0 ** min(late, 10)) if late >= 0 else 0.0
        self.addresses.put(address, _Tries(count, now, wait))
        return max(0, -late)

    def succeeded(self, address: str) -> None:
        self.addresses.forget(address)


class _Minute(Struct, frozen=True):
    began: float
    count: int


class BearerThrottle:
    """Programs. The right token always passes: nobody can shut a program out by trying wrong ones beside it."""

    def __init__(self) -> None:
        self.addresses: _Remembered[_Minute] = _Remembered()

    def failed(self, address: str, now: float) -> int:
        """Counts a wrong token. Returns the seconds until the next one is answered 401; 0: this one is."""
        minute = self.addresses.get(address)
        if minute is None or not 0 <= now - minute.began < 60:
            minute = _Minute(now, 0)
        self.addresses.put(address, _Minute(minute.began, minute.count + 1))
        return 0 if minute.count < sessions.WRONG_A_MINUTE else max(1, round(minute.began + 60 - now))
