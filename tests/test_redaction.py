"""What must not be read is masked before anything is kept, logged or shown."""

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receiver.model.links import Links
from receiver.model.records import Json, JsonObject, Purpose
from receiver.model.redaction import MASK, Redactor

KEY = "0123456789abcdef0123456789abcdef"
ADMIN = "admin-token-of-nobody"
LINKS = Links(["signing-secret-of-nobody"], "https://receiver.example")
TOKEN = LINKS.token("01a205ac-c703-76a8-b314-bcbc425dff41", Purpose.SUBMIT)
URL = f"https://receiver.example/callbacks/{TOKEN}"
MASKED_URL = f"https://receiver.example/callbacks/{MASK}"
NOBODY = Redactor([])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (URL, MASKED_URL),
        (f"POST {URL} HTTP/1.1", f"POST {MASKED_URL} HTTP/1.1"),
        (f"{URL}?a=b#c", f"{MASKED_URL}?a=b#c"),
        (f"{URL}/", f"{MASKED_URL}/"),
        (f"<{URL}>, '{URL}'.", f"<{MASKED_URL}>, '{MASKED_URL}'."),
        (
            f'I/O error on POST request for "{URL}": Connection refused',
            f'I/O error on POST request for "{MASKED_URL}": Connection refused',
        ),
        ("/callbacks/whatever-this-is x", f"/callbacks/{MASK} x"),
        ('{"u":"\\/callbacks\\/whatever-this-is"}', '{"u":"\\/callbacks\\/' + MASK + '"}'),
        (f"callbacks/{TOKEN}\ncallbacks/{TOKEN}", f"callbacks/{MASK}\ncallbacks/{MASK}"),
        (f'{{"webhookUrl":"{URL}","a":1}}', f'{{"webhookUrl":"{MASKED_URL}","a":1}}'),
        (
            '{"u":"https:\\/\\/h\\/callbacks\\/' + TOKEN + '","a":1}',
            '{"u":"https:\\/\\/h\\/callbacks\\/' + MASK + '","a":1}',
        ),
        (
            '{"inner":"{\\"u\\":\\"' + URL + '\\",\\"a\\":1}"}',
            '{"inner":"{\\"u\\":\\"' + MASKED_URL + '\\",\\"a\\":1}"}',
        ),
    ],
    ids=[
        *["alone", "in a request line", "query and fragment stay", "slash at the end", "in brackets and quotes"],
        *[
            "in the provider's complaint",
            "a token of no form",
            "the same with escaped slashes",
            "twice",
            "in JSON",
            "in JSON with escaped slashes",
        ],
        *["in JSON in JSON"],
    ],
)
def test_the_token_of_a_callback_url_is_masked_and_nothing_around_it(text: str, expected: str) -> None:
    assert NOBODY.text(text) == expected


@pytest.mark.parametrize(
    "text", [TOKEN, f"token={TOKEN};", f"({TOKEN})", f"{TOKEN}.", f"%2F{TOKEN}", f'{{"token":"{TOKEN}"}}', f"{TOKEN}\n"]
)
def test_a_token_without_its_url_is_masked(text: str) -> None:
    masked = NOBODY.text(text)
    assert MASK in masked
    assert TOKEN.partition(".")[0] not in masked
    assert TOKEN.rpartition(".")[2] not in masked


@pytest.mark.parametrize(
    "text",
    [
        "",
        "RunningHub refused it: INVALID_PARAMETERS (1007)",
        "https://files.example/output/2f6e0c1ab4d84f0f9b8f_00001_.png",
        "callbacks: 3 received, 1 missed",
        "01a205ac-c703-76a8-b314-bcbc425dff41:keep-files:1",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "receiver.store.sqlite.database.DatabaseInUse",
        "2026-11-22T08:00:00.000Z",
    ],
)
def test_ordinary_words_ids_and_links_are_not_masked(text: str) -> None:
    assert Redactor([KEY, ADMIN]).text(text) == text


# ---------------------------------------------------------------- known secrets


def test_every_known_secret_is_masked_wherever_it_stands() -> None:
    redact = Redactor([KEY, None, "", ADMIN])
    assert redact.text(f"{KEY}, x{ADMIN}x{KEY}") == f"{MASK}, x{MASK}x{MASK}"


@pytest.mark.parametrize(
    "secret", ["a.b*c(d", "[a-z]+", "^.*$^.*$", "a|b|c|d", "\\d\\d\\d", "(?P<x>", "a{3}b{3}", "$ecret$"]
)
def test_a_secret_is_a_text_and_no_pattern(secret: str) -> None:
    redact = Redactor([secret])
    assert redact.text(f"is {secret} here") == f"is {MASK} here"
    assert redact.text("abc aXbYc(d 123 aaabbb abcdefgh") == "abc aXbYc(d 123 aaabbb abcdefgh"


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_of_two_secrets_the_longer_is_masked_whole(order: tuple[int, int]) -> None:
    secrets = ["secret-one", "secret-one-and-more"]
    redact = Redactor([secrets[index] for index in order])
    assert redact.text("a secret-one-and-more, a secret-one") == f"a {MASK}, a {MASK}"


def test_a_secret_too_short_to_tell_from_a_word_is_left_alone() -> None:
    redact = Redactor(["short", "abcdef"])
    assert redact.text("short abcdef") == f"short {MASK}"


def test_a_server_without_secrets_masks_tokens_all_the_same() -> None:
    assert Redactor([None, "", "x"]).text(f"x {URL}") == f"x {MASKED_URL}"


# ---------------------------------------------------------------- bodies


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", ""),
        (f'{{"apiKey":"{KEY}"}}'.encode(), f'{{"apiKey":"{MASK}"}}'),
        (b"\xff\xfe " + KEY.encode() + b" \xe6\x9c", f"\ufffd\ufffd {MASK} \ufffd"),
        (b"a\x00b", "ab"),
        (b"\x00".join(bytes([byte]) for byte in KEY.encode()), MASK),
        (f"\x00{URL}\xff".encode("latin-1"), f"https://receiver.example/callbacks/{MASK}"),
    ],
    ids=["empty", "JSON", "bad UTF-8", "NUL", "a secret with NUL in between", "a token next to bad UTF-8"],
)
def test_a_body_is_text_without_secrets_whatever_its_bytes(body: bytes, expected: str) -> None:
    assert Redactor([KEY]).body(body) == expected


@settings(deadline=None, max_examples=25, derandomize=True)
@given(st.binary(max_size=40), st.sampled_from([KEY, ADMIN, TOKEN, URL]), st.binary(max_size=40))
def test_no_bytes_around_a_secret_save_it(before: bytes, secret: str, after: bytes) -> None:
    masked = Redactor([KEY, ADMIN, TOKEN]).body(before + b" " + secret.encode() + b" " + after)
    assert KEY not in masked
    assert ADMIN not in masked
    assert TOKEN not in masked
    assert "\x00" not in masked


# ---------------------------------------------------------------- data


def test_data_keeps_its_structure_and_its_numbers() -> None:
    data: JsonObject = {
        "status": 200,
        "seconds": 0.25,
        "answer": f"hello {KEY}",
        "nested": {"list": [URL, None, True, {"again": f"{ADMIN}"}]},
        KEY: "as a name",
        "quotes": 'a "quoted" \\ text\n',
        "large": 2**63,
    }
    assert Redactor([KEY, ADMIN]).data(data) == {
        "status": 200,
        "seconds": 0.25,
        "answer": f"hello {MASK}",
        "nested": {"list": [MASKED_URL, None, True, {"again": MASK}]},
        MASK: "as a name",
        "quotes": 'a "quoted" \\ text\n',
        "large": 2**63,
    }


AWKWARD: dict[str, tuple[str, JsonObject]] = {
    "ends in a backslash": ("secret\\", {"answer": "my secret\\"}),
    "looks like a number": ("123456", {"size": 1234567, "answer": "123456"}),
    "is part of the syntax": ('":{"a":', {"x": {"a": 1}}),
    "has a quote": ('sec"ret-1', {"answer": 'my sec"ret-1'}),
    "has a backslash": ("sec\\ret-1", {"answer": "my sec\\ret-1"}),
    "has a line end": ("sec\nret-1", {"answer": "my sec\nret-1"}),
}


def masked_by_hand(value: Json, secret: str) -> Json:
    if isinstance(value, str):
        return value.replace(secret, MASK)
    if isinstance(value, dict):
        return {name: masked_by_hand(item, secret) for name, item in value.items()}
    return value


@pytest.mark.parametrize(("secret", "data"), AWKWARD.values(), ids=AWKWARD.keys())
def test_an_awkward_secret_is_masked_in_data_and_breaks_nothing(secret: str, data: JsonObject) -> None:
    assert Redactor([secret]).data(data) == masked_by_hand(data, secret)


@settings(deadline=None, max_examples=25, derandomize=True)
@given(st.recursive(st.none() | st.integers(0, 9) | st.text('ab"\\/\n\u2028é', max_size=9), st.lists, max_leaves=5))
def test_data_without_secrets_stays_as_it_is(value: object) -> None:
    data: JsonObject = {"value": msgspec.json.decode(msgspec.json.encode(value))}
    assert Redactor([KEY, ADMIN]).data(data) == data


@pytest.mark.parametrize("part", [KEY[:-1], KEY[: len(KEY) // 2], KEY[:8]])
def test_a_secret_that_a_text_was_cut_through_is_masked_at_its_end(part: str) -> None:
    redact = Redactor([KEY])
    assert redact.text(f"printed {part}") == "printed [secret]"
    assert redact.text(part) == "[secret]"
    assert redact.text(f"printed {part} before") == f"printed {part} before"


@pytest.mark.parametrize("part", [KEY[1:], KEY[len(KEY) // 2 :], KEY[-8:]])
def test_a_secret_that_a_text_was_cut_through_is_masked_at_its_beginning(part: str) -> None:
    redact = Redactor([KEY])
    assert redact.text(f"{part} was printed") == "[secret] was printed"
    assert redact.text(f"then {part} was printed") == f"then {part} was printed"


def test_what_says_nothing_of_a_secret_stays_as_it_is() -> None:
    redact = Redactor(["whsec_0123456789", "Bearer 0123456789"])
    for text in ("write whsec_", "Bearer", "89 of them", ""):
        assert redact.text(text) == text
