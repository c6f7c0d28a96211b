"""Which addresses and names belong to the whole internet, and which to this machine or its network."""

import re
import socket
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address

# IANA's registries of special-purpose addresses, written out: what `ipaddress` calls global differs between Pythons.
_NOT_PUBLIC_4 = [
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's platform, reachable from every machine there and from nowhere else
        "169.254.0.0/16",  # link-local, where clouds keep their metadata
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",  # documentation, as the two below that end in .100 and .113
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
]
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_NOT_PUBLIC_6 = [
    IPv6Network(text)
    for text in (
        "2001::/23",  # protocol assignments, Teredo among them
        "2001:db8::/32",  # documentation, as 3fff::/20
        "2002::/16",  # 6to4: an IPv4 address in disguise
        "3fff::/20",
    )
]
_NAT64 = IPv6Network("64:ff9b::/96")

_NAME = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\.?", re.IGNORECASE)
_LOCAL = ("localhost", "local", "localdomain", "internal", "home.arpa")
"""Endings that never are names of the internet: RFC 6761, RFC 6762, RFC 8375, ICANN's resolution on .internal."""


def is_public(address: Address) -> bool:
    """Whether the address is one of the whole internet. An IPv4 address inside an IPv6 one is judged as itself."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_4)
    if address.scope_id is not None:
        return False
    if address.ipv4_mapped is not None:
        return is_public(address.ipv4_mapped)
    if address in _NAT64:
        return is_public(IPv4Address(address.packed[-4:]))
    return address in _GLOBAL_UNICAST and not any(address in network for network in _NOT_PUBLIC_6)


def literal(host: str) -> Address | None:
    """The address that a host spells out, also in the forms only a C library reads (decimal, hex, octal, short)."""
    host = host.rstrip(".")
    with suppress(ValueError):
        return ip_address(host)
    if not _NAME.fullmatch(host):
        return None
    with suppress(OSError, ValueError):
        return IPv4Address(socket.inet_aton(host))
    return None


def is_near(host: str) -> bool:
    """Whether a host itself, before it is looked up, shows that it is this machine or its network.

    A name does that when it has one label, which search domains complete, or a local ending.
    """
    address = literal(host)
    if address is not None:
        return not is_public(address)
    name = host.rstrip(".").lower()
    return "." not in name or name.endswith(tuple(f".{ending}" for ending in _LOCAL))


def is_here(host: str) -> bool:
    """Whether a host is an address of this machine: one that a socket of it can have."""
    address = literal(host)
    if address is None:
        return False
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True


def is_name(host: str) -> bool:
    """Whether a host may be looked up at all: labels of letters, digits, - and _, between dots."""
    return _NAME.fullmatch(host) is not None and len(host) <= 254
