"""Callback URLs: what a token says, who may have signed it, and what is refused."""

import hashlib
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from itsdangerous import URLSafeSerializer

from receiver.model.links import CALLBACK_SALT, TOKEN_LIMIT, Link, Links
from receiver.model.records import Purpose

OLD = "old-secret-old-secret"
NEW = "new-secret-new-secret"
OTHER = "other-secret-other-secret"
PUBLIC = "https://receiver.example"
TASK = "01a205ac-c703-76a8-b314-bcbc425dff41"
NOISE = "".join(hashlib.sha256(bytes([number])).hexdigest() for number in range(20))
"""A text that compression does not shrink by much."""
SAFE = string.ascii_letters + string.digits + "-_"
BOTH = pytest.mark.parametrize("purpose", Purpose)


def links(*secrets: str, public_url: str | None = PUBLIC) -> Links:
    return Links(secrets or (NEW,), public_url)


def forged(
    payload: object, *, secret: str = NEW, salt: str = CALLBACK_SALT, digest: object = hashlib.sha256, key: str = "hmac"
) -> str:
    """A token as somebody who knows `secret` could make it."""
    options = {"digest_method": digest, "key_derivation": key}
    token = URLSafeSerializer(secret, salt=salt, signer_kwargs=options).dumps(payload)
    return token if isinstance(token, str) else token.decode()


@BOTH
def test_a_token_says_whose_callback_it_is_and_what_it_was_issued_for(purpose: Purpose) -> None:
    token = links().token(TASK, purpose)
    assert links().read(token) == Link(TASK, purpose)


@BOTH
@pytest.mark.parametrize(
    ("public_url", "before"),
    [
        (PUBLIC, f"{PUBLIC}/callbacks/"),
        (f"{PUBLIC}/", f"{PUBLIC}/callbacks/"),
        ("http://receiver.example:8080/below/here", "http://receiver.example:8080/below/here/callbacks/"),
    ],
    ids=["plain", "slash at the end", "port and path"],
)
def test_a_url_is_the_public_one_and_a_token_of_safe_characters(public_url: str, before: str, purpose: Purpose) -> None:
    ours = links(public_url=public_url)
    url = ours.issue(TASK, purpose)
    assert url is not None
    assert url.startswith(before)
    token = url.removeprefix(before)
    assert set(token) <= {*SAFE, "."}
    assert ours.read(token) == ours.read_url(url) == Link(TASK, purpose)


@pytest.mark.parametrize("public_url", [None, ""], ids=repr)
def test_without_a_public_url_nothing_is_issued_and_everything_is_read(public_url: str | None) -> None:
    closed = links(public_url=public_url)
    assert not closed.can_issue
    assert closed.issue(TASK, Purpose.SUBMIT) is None
    assert closed.read(closed.token(TASK, Purpose.SUBMIT)) == Link(TASK, Purpose.SUBMIT)
    assert closed.read_url(f"{PUBLIC}/callbacks/{links().token(TASK, Purpose.RESEND)}") == Link(TASK, Purpose.RESEND)


def test_with_a_public_url_urls_can_be_issued() -> None:
    assert links().can_issue


def test_there_must_be_a_secret() -> None:
    with pytest.raises(ValueError, match="secret"):
        Links([], PUBLIC)


# ---------------------------------------------------------------- rotation


def test_the_first_secret_signs() -> None:
    """Our lists stand newest first; the library signs with the last of a list."""
    token = links(NEW, OLD).token(TASK, Purpose.SUBMIT)
    assert links(NEW).read(token) == Link(TASK, Purpose.SUBMIT)
    assert links(OLD).read(token) is None


def test_an_old_secret_is_accepted_while_it_is_listed_and_refused_afterwards() -> None:
    token = links(OLD).token(TASK, Purpose.SUBMIT)
    assert links(NEW, OLD).read(token) == Link(TASK, Purpose.SUBMIT)
    assert links(NEW, OTHER, OLD).read(token) == Link(TASK, Purpose.SUBMIT)
    assert links(NEW).read(token) is None


# ---------------------------------------------------------------- forgery

FORGERIES = {
    "another secret": forged([TASK, "submit"], secret=OTHER),
    "another salt": forged([TASK, "submit"], salt="receiver.session.v1"),
    "the library's own salt": forged([TASK, "submit"], salt="itsdangerous"),
    "a weaker digest": forged([TASK, "submit"], digest=hashlib.sha1),
    "another derivation of the key": forged([TASK, "submit"], key="django-concat"),
    "a purpose that does not exist": forged([TASK, "admin"]),
    "no purpose": forged([TASK]),
    "something more": forged([TASK, "submit", "more"]),
    "a number for an id": forged([7, "submit"]),
    "no id": forged([None, "submit"]),
    "an object": forged({"task": TASK, "purpose": "submit"}),
    "a text": forged(TASK),
    "nothing at all": forged(None),
    "an id far too long": forged([NOISE, "submit"]),
}


@pytest.mark.parametrize("token", FORGERIES.values(), ids=FORGERIES.keys())
def test_a_token_that_we_never_made_is_refused(token: str) -> None:
    assert links().read(token) is None


def test_the_same_forgery_with_all_of_our_ways_is_our_token() -> None:
    """Otherwise the table above would prove nothing."""
    assert forged([TASK, "submit"]) == links().token(TASK, Purpose.SUBMIT)


def test_a_token_longer_than_any_of_ours_is_refused_unseen() -> None:
    fitting = forged([NOISE[:256], "submit"])
    assert len(fitting) <= TOKEN_LIMIT
    assert links().read(fitting) == Link(NOISE[:256], Purpose.SUBMIT)
    too_long = forged([NOISE[:1000], "submit"])
    assert len(too_long) > TOKEN_LIMIT
    assert links().read(too_long) is None


def test_no_character_of_a_token_can_be_changed_to_say_something_else() -> None:
    ours = links()
    link = Link(TASK, Purpose.SUBMIT)
    token = ours.token(*(link.task_id, link.purpose))
    for place, old in enumerate(token):
        for new in "Aq9_-.=+/ é\x00":
            if new != old:
                changed = token[:place] + new + token[place + 1 :]
                assert ours.read(changed) in (None, link), (place, new)
        assert ours.read(token[:place] + token[place + 1 :]) in (None, link), place
        assert ours.read(token[:place]) is None, place


def test_four_texts_are_one_token() -> None:
    """The last character carries two bits that nobody reads: a token's text must never be a key."""
    ours = links()
    token = ours.token(TASK, Purpose.SUBMIT)
    readable = [last for last in SAFE if ours.read(token[:-1] + last) is not None]
    assert len(readable) == 4
    assert {ours.read(token[:-1] + last) for last in readable} == {Link(TASK, Purpose.SUBMIT)}


@pytest.mark.parametrize(
    "token",
    [
        *["", ".", "..", "a", "a.b", "\x00", "é", "\ud800", "٣" * 50, "🏮", " ", "\n", "%00", "../.."],
        *["a" * 10_000_000, "." + "A" * 50 + "." + "A" * 43, "eJw" + "." * 40, "W10." + "A" * 43],
    ],
    ids=lambda token: ascii(token[:12]),
)
def test_an_odd_token_is_refused(token: str) -> None:
    assert links().read(token) is None


def test_space_and_line_ends_around_a_token_are_not_part_of_it() -> None:
    token = links().token(TASK, Purpose.SUBMIT)
    for around in (f" {token}", f"{token}\n", f"{token}\x00", f"{token} x", f"{token}é", f"{token}\ud800"):
        assert links().read(around) is None, around


@settings(deadline=None, max_examples=40, derandomize=True)
@given(st.text(max_size=60) | st.text(alphabet=SAFE + ".", max_size=200))
def test_any_text_is_refused_as_a_token_and_as_a_url(text: str) -> None:
    assert links().read(text) is None
    assert links().read_url(text) is None


@settings(deadline=None, max_examples=40, derandomize=True)
@given(st.integers(0, 100), st.text(max_size=3), st.integers(0, 3))
def test_any_damage_to_a_token_is_refused_or_changes_nothing(at: int, put: str, cut: int) -> None:
    ours = links()
    token = ours.token(TASK, Purpose.RESEND)
    assert ours.read(token[:at] + put + token[at + cut :]) in (None, Link(TASK, Purpose.RESEND))


# ---------------------------------------------------------------- URLs

TOKEN = links().token(TASK, Purpose.SUBMIT)


@pytest.mark.parametrize(
    "url",
    [
        f"{PUBLIC}/callbacks/{TOKEN}",
        f"http://moved.example:8080/callbacks/{TOKEN}",
        f"https://receiver.example/below/here/callbacks/{TOKEN}",
        f"{PUBLIC}/callbacks/{TOKEN}?from=provider",
        f"{PUBLIC}/callbacks/{TOKEN}#end",
        f"https://[2001:db8::1]:8443/callbacks/{TOKEN}",
    ],
    ids=["as issued", "other host and port", "below a path", "with a query", "with a fragment", "an IPv6 host"],
)
def test_the_token_of_a_url_is_read_wherever_the_url_leads(url: str) -> None:
    """Public URLs move; the provider keeps the one it was given."""
    assert links().read_url(url) == Link(TASK, Purpose.SUBMIT)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/",
        PUBLIC,
        f"{PUBLIC}/callbacks/",
        f"{PUBLIC}/callbacks/{TOKEN}/more",
        f"{PUBLIC}/callbacks/x{TOKEN}",
        f"{PUBLIC}/callbacks/?token={TOKEN}",
        f"http://[half/callbacks/{TOKEN}",
        "https://your-webhook-url",
        "\ud800",
        "http://\u2100.example/x",
    ],
    ids=ascii,
)
def test_a_url_without_a_token_of_ours_says_nothing(url: str) -> None:
    assert links().read_url(url) is None
