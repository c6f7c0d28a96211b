"""Texts with places."""

import pytest

from receiver.model.templates import LoneBrace, fill, places


def test_places_are_filled_and_doubled_braces_are_braces() -> None:
    assert fill("{a b}-{n} {{n}} }}{{", {"a b": "x", "n": "7"}.__getitem__) == "x-7 {n} }{"


def test_what_is_filled_in_is_no_template_itself() -> None:
    assert fill("{a}", lambda name: "{b}") == "{b}"


def test_places_are_told_in_their_order() -> None:
    assert places("{b} {{c}} {a} {b}") == ["b", "a", "b"]


@pytest.mark.parametrize("text", ["{", "}", "{{{", "a } b", "{a{b}"])
def test_a_brace_that_belongs_to_no_place_is_refused(text: str) -> None:
    with pytest.raises(LoneBrace, match="write "):
        fill(text, str)
