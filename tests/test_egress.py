"""The one way out: what it refuses, what it connects to, and that nothing it does lasts for ever."""

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_address
from ssl import PROTOCOL_TLS_SERVER, SSLContext
from typing import TypeAlias

import pytest
from targets import PUBLIC, TLS, Names, Network, Target, silence

from receiver.egress.addresses import is_public
from receiver.egress.client import REDIRECTS, Egress, EgressFailed, EgressLate, EgressRefused, Patience
from receiver.egress.unpack import PIECE, Unpackable, unpacked
from receiver.model.definitions import FailureClass

METADATA = "169.254.169.254"
OTHER = "93.184.216.35"

NEAR: list[tuple[str, str]] = [
    # this machine, in every spelling
    ("127.0.0.1", "127.0.0.1"),
    ("127.255.255.254", "127.255.255.254"),
    ("127.0.0.1.", "127.0.0.1"),
    ("127.1", "127.0.0.1"),
    ("127.0.1", "127.0.0.1"),
    ("2130706433", "127.0.0.1"),
    ("0x7f000001", "127.0.0.1"),
    ("0x7f.1", "127.0.0.1"),
    ("0x7f.0x0.0x0.0x1", "127.0.0.1"),
    ("017700000001", "127.0.0.1"),
    ("0x7F.0.0.01", "127.0.0.1"),
    ("127。0。0。1", "127.0.0.1"),
    ("127\uff0e0\uff0e0\uff0e1", "127.0.0.1"),
    ("example.com@127.0.0.1", "127.0.0.1"),
    ("example.com:80@127.0.0.1", "127.0.0.1"),
    ("[::1]", "::1"),
    ("[0:0:0:0:0:0:0:1]", "::1"),
    ("[::]", "::"),
    ("0.0.0.0", "0.0.0.0"),
    ("0", "0.0.0.0"),
    ("[::ffff:127.0.0.1]", "::ffff:127.0.0.1"),
    ("[::ffff:7f00:1]", "::ffff:127.0.0.1"),
    ("[::127.0.0.1]", "::127.0.0.1"),
    ("[64:ff9b::7f00:1]", "64:ff9b::7f00:1"),
    ("localhost", "127.0.0.1"),
    ("LOCALHOST", "127.0.0.1"),
    ("localhost.", "127.0.0.1"),
    ("app.localhost", "127.0.0.1"),
    ("example.com@localhost", "127.0.0.1"),
    # its network
    ("10.0.0.1", "10.0.0.1"),
    ("10.255.255.255", "10.255.255.255"),
    ("172.16.0.1", "172.16.0.1"),
    ("172.31.255.255", "172.31.255.255"),
    ("192.168.1.1", "192.168.1.1"),
    ("192.168.257", "192.168.1.1"),
    ("100.64.0.1", "100.64.0.1"),
    ("100.127.255.255", "100.127.255.255"),
    ("169.254.0.1", "169.254.0.1"),
    ("[fe80::1]", "fe80::1"),
    ("[fe80::1%25eth0]", "fe80::1%25eth0"),
    ("[fe80::1%eth0]", "fe80::1%eth0"),
    ("[2606:4700::1111%251]", "2606:4700::1111%251"),
    ("[fd00::1]", "fd00::1"),
    ("[fc00::1]", "fc00::1"),
    ("[fec0::1]", "fec0::1"),
    ("[::ffff:10.0.0.1]", "::ffff:10.0.0.1"),
    ("[::10.0.0.1]", "::10.0.0.1"),
    ("[64:ff9b::a00:1]", "64:ff9b::a00:1"),
    ("[64:ff9b:1::808:808]", "64:ff9b:1::808:808"),
    ("[2002:a00:1::]", "2002:a00:1::"),
    ("[2002:7f00:1::1]", "2002:7f00:1::1"),
    ("[2001:0:a00:1::80ff:fffe]", "2001:0:a00:1::80ff:fffe"),
    ("printer", "192.168.1.9"),
    ("printer.local", "192.168.1.9"),
    ("router.home.arpa", "192.168.1.1"),
    # a cloud's metadata
    (METADATA, METADATA),
    ("2852039166", METADATA),
    ("0xa9fea9fe", METADATA),
    ("169.254.43518", METADATA),
    ("[::ffff:169.254.169.254]", "::ffff:169.254.169.254"),
    ("[::ffff:a9fe:a9fe]", "::ffff:169.254.169.254"),
    ("[fd00:ec2::254]", "fd00:ec2::254"),
    ("[fd20:ce::254]", "fd20:ce::254"),
    ("100.100.100.200", "100.100.100.200"),
    ("192.0.0.192", "192.0.0.192"),
    ("168.63.129.16", "168.63.129.16"),
    ("metadata", METADATA),
    ("metadata.google.internal", METADATA),
    ("metadata.google.internal.", METADATA),
    ("instance-data", METADATA),
    # nobody's
    ("0.1.2.3", "0.1.2.3"),
    ("192.0.2.1", "192.0.2.1"),
    ("198.51.100.1", "198.51.100.1"),
    ("203.0.113.1", "203.0.113.1"),
    ("198.18.0.1", "198.18.0.1"),
    ("198.19.255.255", "198.19.255.255"),
    ("192.88.99.1", "192.88.99.1"),
    ("224.0.0.1", "224.0.0.1"),
    ("239.255.255.250", "239.255.255.250"),
    ("240.0.0.1", "240.0.0.1"),
    ("255.255.255.255", "255.255.255.255"),
    ("4294967295", "255.255.255.255"),
    ("[ff02::1]", "ff02::1"),
    ("[2001:db8::1]", "2001:db8::1"),
    ("[3fff::1]", "3fff::1"),
    ("[100::1]", "100::1"),
    ("[5f00::1]", "5f00::1"),
    ("[4000::1]", "4000::1"),
    # names of the internet that lead here
    ("inside.example.com", "10.0.0.7"),
    ("here.example.com", "127.0.0.1"),
    ("meta.example.com", METADATA),
    ("mapped.example.com", "::ffff:10.0.0.1"),
    ("linklocal.example.com", "fe80::1%2"),
    ("127.0.0.1.nip.io", "127.0.0.1"),
    ("mixed.example.com", PUBLIC),
    ("mixed-late.example.com", PUBLIC),
]
"""A host as a URL has it, and the address that somebody with the permission is connected to."""


def names() -> Names:
    several = {
        "mixed.example.com": [PUBLIC, "10.0.0.7"],
        "mixed-late.example.com": [PUBLIC, "2606:4700::1111", "::1"],
    }
    told = Names()
    for host, address in NEAR:
        name = host.rpartition("@")[2].lower()
        told.put(name, several.get(name, [address]))
    return told


NOT_HTTP = [
    "",
    "x",
    "//127.0.0.1/",
    "http://",
    "http:///x",
    "http:127.0.0.1/",
    " http://127.0.0.1/",
    "ftp://127.0.0.1/x",
    "ftp://example.com/x",
    "file:///etc/passwd",
    "gopher://127.0.0.1:6379/_x",
    "data:text/plain,x",
    "javascript:alert(1)",
    "ws://127.0.0.1/",
    "http://[::1",
    "http://[]/",
    "http://h.example.com:0/",
    "http://h.example.com:-1/",
    "http://h.example.com:65536/",
    "http://h.example.com:99999999/",
    "http://h.example.com:80:80/",
    "http://h.example.com:x/",
    "http://0177.0.0.1/",
    "http://256.1.1.1/",
    "http://①②⑦.0.0.1/",
    "http://\uff11\uff12\uff17.0.0.1/",
    "http://ⓛocalhost/",
    "http://127.0.0.1\\@example.com/",
    "http://example.com\\@127.0.0.1/",
    "http://example.com\\.127.0.0.1/",
    "http:\\\\127.0.0.1\\",
    "http://127.0.0.1%00.example.com/",
    "http://127.0.0.1%2f.example.com/",
    "http://%31%32%37.0.0.1/",
    "http://localhost%2e/",
    "http://exa mple.com/",
    "http://127.0.0.1\t/",
    "http://127.0.0.1\r\nHost:x/",
    "http://.example.com/",
    "http://h..example.com/",
    "http://" + "a" * 64 + ".example.com/",
    "http://" + "a." * 127 + "com/",
]


@asynccontextmanager
async def opened(egress: Egress) -> AsyncIterator[Egress]:
    try:
        yield egress
    finally:
        await egress.aclose()


async def post(egress: Egress, url: str, *, allow_private: bool = False, timeout: float = 5) -> bytes:
    answer = await egress.post(url, b"{}", {}, allow_private=allow_private, timeout=timeout)
    return answer.body_start


async def fetch(egress: Egress, url: str, *, allow_private: bool = False) -> bytes:
    async with egress.stream(url, allow_private=allow_private) as stream:
        return b"".join([part async for part in stream])


Way: TypeAlias = Callable[..., Awaitable[bytes]]
WAYS: list[Way] = [post, fetch]
both_ways = pytest.mark.parametrize("way", WAYS)


# ---- what is refused


PRIVATE = "refused: not a public address; `allow_private = true` lets an action reach it"
NO_ADDRESS = "refused: not an http or https address"


async def outcome(doing: Awaitable[bytes]) -> str:
    """What came of a request, as a line of a table; where it went is the table's own key."""
    try:
        return f"got {await doing!r}"
    except EgressRefused as refused:
        return f"refused: {str(refused).partition(' is ')[2]}"
    except EgressFailed as failed:
        return f"failed: {str(failed).partition(' ')[2]}"


@both_ways
async def test_nothing_near_is_reached_under_any_name(way: Way) -> None:
    network = Network()
    urls = [f"{scheme}://{host}/meta-data?secret" for host, _ in NEAR for scheme in ("http", "https")]
    async with opened(Egress(tls=TLS, resolve=names(), network=network)) as egress:
        told = {url: await outcome(way(egress, url)) for url in urls}
    assert told == dict.fromkeys(urls, PRIVATE)
    assert network.called == []


@both_ways
async def test_with_the_permission_the_same_is_connected_to(way: Way) -> None:
    reached: dict[str, str] = {}
    for host, address in NEAR:
        network = Network()
        async with opened(Egress(tls=TLS, resolve=names(), network=network)) as egress:
            assert await outcome(way(egress, f"http://{host}/", allow_private=True)) == "failed: could not be reached"
        reached[host] = address if ip_address(network.called[0][0]) == ip_address(address) else network.called[0][0]
    assert reached == dict(NEAR)


@pytest.mark.parametrize("allow_private", [True, False])
@both_ways
async def test_what_is_no_http_address_is_refused_with_or_without_permission(way: Way, allow_private: bool) -> None:
    network = Network()
    async with opened(Egress(tls=TLS, resolve=Names(), network=network)) as egress:
        told = {url: await outcome(way(egress, url, allow_private=allow_private)) for url in NOT_HTTP}
    assert told == dict.fromkeys(NOT_HTTP, NO_ADDRESS)
    assert network.called == []


async def test_a_refusal_is_for_good_and_names_no_more_than_the_host(egress: Egress) -> None:
    with pytest.raises(EgressRefused) as caught:
        await post(egress, "http://user:secret@10.0.0.1/secret?secret")
    assert str(caught.value).startswith("http://10.0.0.1:80 is not a public address")
    assert caught.value.category is FailureClass.REFUSED


HERE = ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "017700000001", "127.0.0.1.", "127。0。0。1", "localhost"]
HERE += ["LOCALHOST", "example.com@127.0.0.1", "[::ffff:127.0.0.1]"]


@pytest.mark.parametrize("host", HERE)
@both_ways
async def test_this_machine_s_own_resolver_and_sockets_agree(
    egress: Egress, target: Target, way: Way, host: str
) -> None:
    target.give("/x", b"internal")
    with pytest.raises(EgressRefused, match="is not a public address"):
        await way(egress, target.url("/x", host))
    assert target.connections == 0
    assert await way(egress, target.url("/x", host), allow_private=True) == b"internal"
    assert len(target.requests) == 1


@pytest.mark.parametrize(
    "address",
    [
        "8.8.8.8",
        "100.63.255.255",
        "172.32.0.1",
        "2606:4700::1111",
        "2a00:1450::1",
        "::ffff:8.8.8.8",
        "64:ff9b::808:808",
    ],
)
def test_public_addresses_are_public(address: str) -> None:
    assert is_public(ip_address(address))


@both_ways
async def test_a_public_name_is_reached(target: Target, way: Way) -> None:
    target.give("/x", b"hello")
    network = Network({PUBLIC: target.port})
    told = Names().put("shop.example.com", [PUBLIC])
    async with opened(Egress(tls=TLS, resolve=told, network=network)) as egress:
        assert await way(egress, "http://shop.example.com:8080/x") == b"hello"
    assert network.called == [(PUBLIC, 8080)]
    assert target.requests[0].headers["host"] == "shop.example.com:8080"


async def test_a_name_in_another_script_is_looked_up_as_the_internet_writes_it(target: Target) -> None:
    target.give("/x", b"hello")
    told = Names().put("xn--bcher-kva.example.com", [PUBLIC])
    async with opened(Egress(tls=TLS, resolve=told, network=Network({PUBLIC: target.port}))) as egress:
        assert await post(egress, "http://bücher.example.com/x") == b"hello"


async def test_a_name_that_leads_nowhere_is_a_failure_to_try_again() -> None:
    told = Names().put("empty.example.com", [])
    async with opened(Egress(tls=TLS, resolve=told, network=Network())) as egress:
        for name in ("nowhere.example.com", "empty.example.com"):
            with pytest.raises(EgressFailed, match="could not be reached") as caught:
                await post(egress, f"http://{name}/")
            assert caught.value.category is FailureClass.TRANSPORT


async def test_the_next_address_of_a_name_is_tried_when_the_first_is_dead(target: Target) -> None:
    target.give("/x", b"second")
    network = Network({OTHER: target.port})
    told = Names().put("shop.example.com", [PUBLIC, OTHER])
    async with opened(Egress(tls=TLS, resolve=told, network=network)) as egress:
        assert await post(egress, "http://shop.example.com/x") == b"second"
    assert network.called == [(PUBLIC, 80), (OTHER, 80)]


async def test_an_address_that_does_not_answer_leaves_time_for_the_next(target: Target) -> None:
    target.give("/x", b"second")
    network = Network({OTHER: target.port}, deaf=[PUBLIC])
    told = Names().put("shop.example.com", [PUBLIC, OTHER])
    patience = Patience(connect=0.2)
    async with opened(Egress(tls=TLS, resolve=told, network=network, patience=patience)) as egress, asyncio.timeout(2):
        assert await post(egress, "http://shop.example.com/x") == b"second"
        told.put("shop.example.com", [PUBLIC, PUBLIC])
        with pytest.raises(EgressLate):
            await post(egress, "http://shop.example.com/x")


# ---- names that change their mind


@both_ways
async def test_what_was_judged_is_what_is_connected_to(target: Target, way: Way) -> None:
    """A name that is public when it is judged and private ever after is looked up once for a connection."""
    target.give("/x", b"public")
    network = Network({PUBLIC: target.port})
    told = Names().put("rebinding.example.com", [PUBLIC], ["127.0.0.1"])
    async with opened(Egress(tls=TLS, resolve=told, network=network)) as egress:
        assert await way(egress, "http://rebinding.example.com/x") == b"public"
        assert (told.asked, network.called) == (["rebinding.example.com"], [(PUBLIC, 80)])
        for _ in range(2):
            with pytest.raises(EgressRefused):
                await way(egress, "http://rebinding.example.com/x")
    assert network.called == [(PUBLIC, 80)]
    assert len(target.requests) == 1


async def test_a_connection_that_is_kept_serves_its_own_name_only(target: Target) -> None:
    target.give("/x", b"kept", Connection="keep-alive")
    network = Network({PUBLIC: target.port})
    told = Names().put("one.example.com", [PUBLIC], ["127.0.0.1"]).put("two.example.com", ["127.0.0.1"])
    async with opened(Egress(tls=TLS, resolve=told, network=network)) as egress:
        for _ in range(2):
            assert await post(egress, "http://one.example.com/x") == b"kept"
        assert (target.connections, len(network.called)) == (1, 1)
        with pytest.raises(EgressRefused):
            await post(egress, "http://two.example.com/x")
        with pytest.raises(EgressRefused):
            await fetch(egress, "http://one.example.com/x")
    assert len(target.requests) == 2


async def test_a_connection_made_with_the_permission_serves_nobody_without(target: Target) -> None:
    target.give("/x", b"kept", Connection="keep-alive")
    told = Names().put("shop.example.com", ["127.0.0.1"])
    async with opened(Egress(tls=TLS, resolve=told)) as egress:
        for way in WAYS:
            assert await way(egress, target.url("/x", "shop.example.com"), allow_private=True) == b"kept"
        for way in WAYS:
            with pytest.raises(EgressRefused):
                await way(egress, target.url("/x", "shop.example.com"))
    assert len(target.requests) == 2


# ---- redirects


ELSEWHERE = [
    "http://127.0.0.1:{inner}/x",
    "http://localhost:{inner}/x",
    "http://0x7f.1:{inner}/x",
    "//127.0.0.1:{inner}/x",
    "https://127.0.0.1:{inner}/x",
    "http://shop.example.com@127.0.0.1:{inner}/x",
    "http://inside.example.com:{inner}/x",
    "http://[::ffff:127.0.0.1]:{inner}/x",
    "http://169.254.169.254/latest/meta-data",
    "http://127。0。0。1:{inner}/x",
    "ftp://127.0.0.1:{inner}/x",
    "file:///etc/passwd",
    "gopher://127.0.0.1:{inner}/_x",
    "data:text/plain,x",
    "javascript:alert(1)",
    "http://①②⑦.0.0.1:{inner}/x",
    "http://127.0.0.1:99999/x",
    "http://[::1",
    "http:\\\\127.0.0.1:{inner}\\x",
    "\\\\127.0.0.1:{inner}\\x",
    "http://127.0.0.1:{inner}\\@shop.example.com/x",
]


@pytest.mark.parametrize("hops", [1, 2, REDIRECTS])
async def test_no_hop_leads_inside_or_out_of_http(target: Target, hops: int) -> None:
    told = Names().put("shop.example.com", [PUBLIC]).put("inside.example.com", ["127.0.0.1"])
    for hop in range(1, hops):
        target.give(f"/{hop}", status="302 Found", Location=f"http://shop.example.com/{hop + 1}")
    async with Target().running() as inner:
        inner.give("/x", b"internal")
        network = Network({PUBLIC: target.port, "127.0.0.1": inner.port})
        async with opened(Egress(tls=TLS, resolve=told, network=network)) as egress:
            for location in ELSEWHERE:
                target.requests.clear()
                target.give(f"/{hops}", status="307 Temporary Redirect", Location=location.format(inner=inner.port))
                with pytest.raises(EgressRefused):
                    await fetch(egress, "http://shop.example.com/1")
                assert len(target.requests) == hops, location
        assert inner.connections == 0
    assert {address for address, _ in network.called} == {PUBLIC}


async def test_a_redirect_that_others_would_read_as_another_host_stays_on_its_own(target: Target) -> None:
    async with Target().running() as inner:
        target.give("/1", status="302 Found", Location=f"/\\127.0.0.1:{inner.port}/x")
        network = Network({PUBLIC: target.port, "127.0.0.1": inner.port})
        async with opened(Egress(tls=TLS, network=network)) as egress:
            assert await fetch(egress, f"http://{PUBLIC}/1") == b""
        assert (len(target.requests), inner.connections) == (2, 0)


async def test_a_backslash_in_a_path_is_a_letter(egress: Egress, target: Target) -> None:
    target.give("/sub\\file.png", b"pixels")
    assert await fetch(egress, target.url("/sub\\file.png?sign=a\\b"), allow_private=True) == b"pixels"


async def test_a_post_follows_no_redirect(target: Target) -> None:
    target.give("/x", status="307 Temporary Redirect", Location="http://127.0.0.1/")
    network = Network({PUBLIC: target.port})
    async with opened(Egress(tls=TLS, network=network)) as egress:
        answer = await egress.post(f"http://{PUBLIC}/x", b"{}", {}, allow_private=False, timeout=5)
    assert answer.status == 307
    assert network.called == [(PUBLIC, 80)]


async def test_a_redirect_within_the_internet_is_followed(target: Target) -> None:
    target.give("/old", status="302 Found", Location="http://new.example.com/new")
    target.give("/new", b"pixels")
    network = Network({PUBLIC: target.port, OTHER: target.port})
    told = Names().put("old.example.com", [PUBLIC]).put("new.example.com", [OTHER])
    async with opened(Egress(tls=TLS, resolve=told, network=network)) as egress:
        assert await fetch(egress, "http://old.example.com/old") == b"pixels"
    assert network.called == [(PUBLIC, 80), (OTHER, 80)]


# ---- the configured provider


async def test_files_are_fetched_from_the_configured_provider_wherever_it_is(target: Target) -> None:
    target.give("/x.png", b"pixels")
    for allowed in [("localhost", None), ("LocalHost", target.port)]:
        async with opened(Egress([allowed], tls=TLS)) as egress:
            async with egress.stream(target.url("/x.png", "localhost"), allow_private=False) as stream:
                assert (stream.status, stream.length) == (200, 6)
                assert b"".join([part async for part in stream]) == b"pixels"
            for near in (target.url("/x.png"), target.url("/x.png", "app.localhost")):
                with pytest.raises(EgressRefused):
                    await fetch(egress, near)


async def test_nothing_is_posted_to_the_configured_provider_s_private_address(target: Target) -> None:
    target.give("/x", b"kept", Connection="keep-alive")
    async with opened(Egress([("127.0.0.1", None), ("localhost", target.port)], tls=TLS)) as egress:
        for host in ("127.0.0.1", "localhost"):
            assert await fetch(egress, target.url("/x", host)) == b"kept"
            with pytest.raises(EgressRefused, match="is not a public address"):
                await post(egress, target.url("/x", host))
    assert {request.line for request in target.requests} == {"GET /x HTTP/1.1"}


async def test_another_port_of_the_configured_provider_is_not_reached(target: Target) -> None:
    async with opened(Egress([("127.0.0.1", target.port + 1)], tls=TLS)) as egress:
        with pytest.raises(EgressRefused):
            await fetch(egress, target.url("/x"))
    assert target.connections == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0x7f.1", "[::ffff:127.0.0.1]"])
async def test_the_configured_provider_does_not_lead_to_its_neighbours(target: Target, host: str) -> None:
    async with Target().running() as inner, opened(Egress([("127.0.0.1", target.port)], tls=TLS)) as egress:
        target.give("/1", status="302 Found", Location=target.url("/2"))
        target.give("/2", status="302 Found", Location=inner.url("/x", host))
        with pytest.raises(EgressRefused, match="is not a public address"):
            await fetch(egress, target.url("/1"))
        assert (len(target.requests), inner.connections) == (2, 0)


# ---- nothing lasts for ever


HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


async def ended(target: Target) -> None:
    """Waits until the server has seen the end of the connection."""
    async with asyncio.timeout(2):
        await target.gone.wait()


@pytest.mark.parametrize(
    ("head", "drop"),
    [
        (b"", b"H"),
        (HEAD, b"X-Drip: a\r\n"),
        (HEAD + b"X-Drip: ", b"a"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"),
    ],
)
async def test_a_head_that_drips_ends_with_the_time_and_its_connection(
    target: Target, head: bytes, drop: bytes
) -> None:
    url = target.repeat("/x", head, drop, slowly=True)
    async with opened(Egress(tls=TLS, patience=Patience(head=0.08))) as egress:
        with pytest.raises(EgressFailed):
            await post(egress, url, allow_private=True, timeout=0.08)
        await ended(target)
    async with Target().running() as target, opened(Egress(tls=TLS, patience=Patience(head=0.08))) as egress:
        with pytest.raises(EgressFailed):
            await fetch(egress, target.repeat("/x", head, drop, slowly=True), allow_private=True)
        await ended(target)


@both_ways
async def test_late_is_said_to_be_late(target: Target, way: Way) -> None:
    url = target.repeat("/x", HEAD, b"X-Drip: a\r\n", slowly=True)
    async with opened(Egress(tls=TLS, patience=Patience(head=0.1))) as egress:
        options = {"timeout": 0.1} if way is post else {}
        with pytest.raises(EgressLate, match=f"^http://127.0.0.1:{target.port} did not answer in time") as caught:
            await way(egress, url, allow_private=True, **options)
    assert caught.value.category is FailureClass.TIMEOUT


@both_ways
async def test_endless_headers_end(egress: Egress, target: Target, way: Way) -> None:
    url = target.repeat("/x", HEAD, b"X-Flood: " + b"a" * 8192 + b"\r\n", slowly=False)
    with pytest.raises(EgressFailed, match="broke off"):
        await way(egress, url, allow_private=True)
    await ended(target)


@pytest.mark.parametrize(("drop", "slowly"), [(b"1\r\na\r\n", True), (b"1000\r\n" + b"a" * 4096 + b"\r\n", False)])
async def test_an_answer_without_end_is_taken_at_its_beginning(target: Target, drop: bytes, slowly: bool) -> None:
    url = target.repeat("/x", CHUNKED, drop, slowly=slowly)
    patience = Patience(body_start=0.1 if slowly else 60)
    async with opened(Egress(tls=TLS, patience=patience)) as egress, asyncio.timeout(2):
        start = await post(egress, url, allow_private=True, timeout=60)
        assert 0 < len(start) <= 2048
        await ended(target)


async def test_a_status_that_came_late_is_not_lost_to_its_body(egress: Egress, target: Target) -> None:
    url = target.repeat("/x", CHUNKED, b"1\r\na\r\n", slowly=True)
    async with asyncio.timeout(0.5):
        assert await post(egress, url, allow_private=True, timeout=0.5)


async def test_a_patient_post_waits_longer_than_a_fetch_would(target: Target) -> None:
    async def late(writer: asyncio.StreamWriter) -> None:
        await target.pause(0.1)
        writer.write(HEAD + b"Content-Length: 4\r\n\r\nlate")

    async with opened(Egress(tls=TLS, patience=Patience(idle=0.02))) as egress:
        assert await post(egress, target.play("/x", late), allow_private=True) == b"late"
        with pytest.raises(EgressLate):
            await fetch(egress, target.url("/x"), allow_private=True)


async def test_slow_redirects_end_together(target: Target) -> None:
    async def onwards(writer: asyncio.StreamWriter) -> None:
        await target.pause(0.06)
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    async with opened(Egress(tls=TLS, patience=Patience(head=0.15))) as egress:
        with pytest.raises(EgressLate):
            await fetch(egress, target.play("/x", onwards), allow_private=True)
    assert len(target.requests) < REDIRECTS


async def test_a_stream_that_goes_silent_ends_with_its_connection(target: Target) -> None:
    async def half(writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"Content-Length: 9\r\n\r\nhalf")

    async with opened(Egress(tls=TLS, patience=Patience(idle=0.05))) as egress:
        with pytest.raises(EgressLate):
            await fetch(egress, target.play("/x", half), allow_private=True)
        await ended(target)


async def test_a_stream_that_drips_is_read_for_longer_than_its_head_may_take(target: Target) -> None:
    async def drip(writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b"Content-Length: 9\r\n\r\n")
        for _ in range(9):
            writer.write(b".")
            await target.pause(0.03)

    async with opened(Egress(tls=TLS, patience=Patience(head=0.2, idle=5))) as egress:
        assert await fetch(egress, target.play("/x", drip), allow_private=True) == b"." * 9


@both_ways
async def test_what_is_cancelled_before_the_answer_ends_its_connection(
    egress: Egress, target: Target, way: Way
) -> None:
    asking = asyncio.ensure_future(way(egress, target.play("/x", silence), allow_private=True))
    await target.asked.wait()
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    await ended(target)


async def test_a_stream_that_is_cancelled_midway_ends_its_connection(egress: Egress, target: Target) -> None:
    begun = asyncio.Event()

    async def read() -> None:
        async with egress.stream(url, allow_private=True) as stream:
            async for _ in stream:
                begun.set()

    url = target.repeat("/x", CHUNKED, b"1\r\na\r\n", slowly=True)
    reading = asyncio.create_task(read())
    await begun.wait()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await ended(target)


async def test_a_stream_that_is_left_unread_ends_its_connection(egress: Egress, target: Target) -> None:
    url = target.repeat("/x", CHUNKED, b"1000\r\n" + b"a" * 4096 + b"\r\n", slowly=False)
    async with egress.stream(url, allow_private=True) as stream:
        assert stream.status == 200
    await ended(target)


@both_ways
async def test_a_handshake_that_is_not_answered_ends_with_its_connection(way: Way) -> None:
    gone = asyncio.Event()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        gone.set()
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, opened(Egress(tls=TLS, patience=Patience(connect=0.1))) as egress:
        with pytest.raises(EgressLate):
            await way(egress, f"https://127.0.0.1:{port}/", allow_private=True)
        async with asyncio.timeout(2):
            await gone.wait()


async def test_a_handshake_that_is_cancelled_ends_with_its_connection() -> None:
    begun, gone = asyncio.Event(), asyncio.Event()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        begun.set()
        await reader.read()
        gone.set()
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, opened(Egress(tls=TLS)) as egress:
        asking = asyncio.create_task(post(egress, f"https://127.0.0.1:{port}/", allow_private=True))
        await begun.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await asking
        assert caught.value is not None  # it holds the frames, and so the socket: nothing is closed by being forgotten
        async with asyncio.timeout(2):
            await gone.wait()


async def test_a_lookup_that_hangs_ends_with_the_time() -> None:
    async def hang(host: str, port: int) -> list[str]:
        await asyncio.Event().wait()
        return []

    async with opened(Egress(tls=TLS, resolve=hang, patience=Patience(connect=0.05))) as egress:
        with pytest.raises(EgressLate):
            async with asyncio.timeout(2):
                await post(egress, "http://slow.example.com/")


# ---- packed bodies


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("gzip", gzip.compress(b"scene" * 1000)),
        ("x-gzip", gzip.compress(b"scene" * 500) + gzip.compress(b"scene" * 500)),
        ("GZIP", gzip.compress(b"scene" * 1000)),
        ("deflate", zlib.compress(b"scene" * 1000)),
        ("deflate", zlib.compress(b"scene" * 1000, wbits=-15)),
        ("gzip, aws-chunked", gzip.compress(b"scene" * 1000)),
        ("aws-chunked,GZIP", gzip.compress(b"scene" * 1000)),
        ("gzip, deflate", zlib.compress(gzip.compress(b"scene" * 1000))),
        ("identity, gzip , gzip", gzip.compress(gzip.compress(b"scene" * 1000))),
    ],
)
async def test_a_body_that_was_packed_is_unpacked(egress: Egress, target: Target, encoding: str, packed: bytes) -> None:
    url = target.give("/x", packed, Content_Encoding=encoding)
    async with egress.stream(url, allow_private=True) as stream:
        assert stream.length is None
        assert b"".join([part async for part in stream]) == b"scene" * 1000
    assert target.requests[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    "body", [b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", b"\0\0\0 ftypisom" + b"\0" * 999, b"v 0 0 0\n", b""]
)
@pytest.mark.parametrize(
    "encoding", ["gzip", "x-gzip, gzip", "deflate", "aws-chunked", "identity,aws-chunked", "utf-8"]
)
async def test_a_body_that_is_not_packed_as_was_said_is_taken_as_it_is(
    egress: Egress, target: Target, encoding: str, body: bytes
) -> None:
    url = target.give("/x", body, Content_Encoding=encoding)
    async with egress.stream(url, allow_private=True) as stream:
        assert b"".join([part async for part in stream]) == body


async def test_a_file_is_taken_as_it_is_whatever_it_is_said_to_be_packed_with(egress: Egress, target: Target) -> None:
    for encoding in ("br", "zstd", "compress", "br, gzip"):
        async with egress.stream(
            target.give("/x", b"\x89PNG", Content_Encoding=encoding), allow_private=True
        ) as stream:
            assert b"".join([part async for part in stream]) == b"\x89PNG"


@pytest.mark.parametrize(
    ("encoding", "packed", "named"),
    [
        ("gzip", gzip.compress(b"scene" * 1000)[:-9], "gzip that ends too early"),
        ("br", b"scene", "br"),
        ("aws-chunked, br", b"scene", "br"),
        ("gzip, zstd", b"(\xb5/\xfd", "zstd"),
        ("gzip," * 5, b"scene", "5 layers"),
    ],
)
async def test_a_body_that_cannot_be_unpacked_is_a_failure_that_names_the_packing(
    egress: Egress, target: Target, encoding: str, packed: bytes, named: str
) -> None:
    with pytest.raises(EgressFailed, match=rf"sent what cannot be unpacked, {named}$"):
        await fetch(egress, target.give("/x", packed, Content_Encoding=encoding), allow_private=True)


async def in_parts(data: bytes, size: int) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
@pytest.mark.parametrize("length", [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE])
async def test_few_bytes_that_stand_for_many_come_in_pieces(length: int, size: int) -> None:
    pieces = [piece async for piece in unpacked(in_parts(gzip.compress(bytes(length)), size), "gzip")]
    assert b"".join(pieces) == bytes(length)
    assert max(map(len, pieces), default=0) <= PIECE


async def test_an_encoding_nobody_asked_for_is_not_guessed_at() -> None:
    with pytest.raises(Unpackable, match="zstd"):
        await anext(unpacked(in_parts(b"x", 1), "zstd"))


# ---- the rest


async def test_cookies_of_one_answer_are_not_sent_to_the_next(egress: Egress, target: Target) -> None:
    url = target.give("/x", Set_Cookie="a=b; Path=/")
    for _ in range(2):
        await post(egress, url, allow_private=True)
    assert "cookie" not in target.requests[1].headers


async def test_a_closed_port_is_a_failure_that_names_no_path(egress: Egress) -> None:
    async with Target().running() as closed:
        pass
    with pytest.raises(EgressFailed) as caught:
        await post(egress, closed.url("/hook/secret?token=secret", "user:secret@127.0.0.1"), allow_private=True)
    assert str(caught.value) == f"http://127.0.0.1:{closed.port} could not be reached"


async def test_the_name_and_not_the_number_is_what_a_certificate_is_checked_for() -> None:
    asked: list[str | None] = []
    context = SSLContext(PROTOCOL_TLS_SERVER)
    context.sni_callback = lambda _, name, __: asked.append(name)
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    network = Network({PUBLIC: server.sockets[0].getsockname()[1]})
    told = Names().put("shop.example.com", [PUBLIC])
    async with server, opened(Egress(tls=TLS, resolve=told, network=network)) as egress:
        with pytest.raises(EgressFailed):
            await post(egress, "https://shop.example.com/")
    assert asked == ["shop.example.com"]
