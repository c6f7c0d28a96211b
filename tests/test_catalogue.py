"""The catalogue: its file, finding a model in it, and inputs judged before money is spent."""

import random
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from receiver.model.records import Json, JsonObject
from receiver.runninghub import catalogue
from receiver.runninghub.catalogue import Model, Param, Type, UnknownModel, coerce, example, find, models, search
from receiver.runninghub.validation import accepts, validate

SCRIPT = Path(__file__).parent.parent / "scripts" / "catalogue"
DATA = Path(catalogue.__file__).with_name(catalogue.DATA)
MODEST = settings(deadline=None, derandomize=True)
VEO = "rhart-video-v3.1-pro-official/reference-to-video"
TWICE = {
    "sora-2/image-to-video-channel-low-price",
    "sora-2/image-to-video-pro-channel-low-price",
    "sora-2/text-to-video-channel-low-price",
    "sora-2/text-to-video-pro-channel-low-price",
}


def a_model(*params: Param, later: tuple[str, ...] = ()) -> Model:
    return Model("a/model", "a model", ("Models",), "video", True, later_params=later, params=params)


def a_param(kind: Type = Type.STRING, **facts: Any) -> Param:
    return Param(name="it", type=kind, **facts)


def paths(model: Model, given: JsonObject) -> list[str]:
    return [path for path, _ in validate(model, given)]


# ---------------------------------------------------------------- the file


def test_every_model_is_there_once() -> None:
    assert len(models()) == 434
    assert sum(model.listed for model in models()) == 225
    assert len({model.endpoint for model in models()}) == 434
    assert sum(len(model.params) for model in models()) == 2472
    assert {model.output for model in models()} == {"video", "image", "audio", "text", "3d", "json"}


def test_four_names_are_those_of_a_model_and_its_withdrawn_sister() -> None:
    counts = Counter(model.name for model in models())
    assert {name for name, count in counts.items() if count > 1} == TWICE
    for name in TWICE:
        first, other = sorted(model.endpoint for model in models() if model.name == name)
        assert other == f"{first}-deprecated"


def test_parameters_have_one_name_each_and_a_default_that_is_allowed() -> None:
    for model in models():
        names = [name for param in model.params for name in (param.name, param.alias) if name]
        assert len(names) == len(set(names)), model.endpoint
        defaults = {param.name: coerced(param) for param in model.params if param.default is not None}
        assert set(paths(model, defaults)) <= {param.name for param in model.params if param.default is None}


def coerced(param: Param) -> Json:
    return list(param.default) if isinstance(param.default, tuple) else param.default


def test_the_file_is_small() -> None:
    data = DATA.read_bytes()
    assert catalogue.unpack(data) == models()
    assert len(data) < 250_000


def test_the_file_is_read_in_a_moment() -> None:
    data = DATA.read_bytes()
    times = []
    for _ in range(5):
        start = perf_counter()
        catalogue.unpack(data)
        times.append(perf_counter() - start)
    assert min(times) < 0.03


# ---------------------------------------------------------------- rebuilding it


def rebuild(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SCRIPT, *arguments], capture_output=True, text=True, check=False)


def test_the_catalogue_as_facts_makes_the_same_catalogue_in_any_order(tmp_path: Path) -> None:
    facts = rebuild("--facts").stdout.splitlines(keepends=True)
    (tmp_path / "facts.jsonl").write_text("".join(random.Random(1).sample(facts, len(facts))))
    done = rebuild(tmp_path / "facts.jsonl", tmp_path / "data.json")
    assert done.stdout.endswith("data.json: 434 models, 225 of them listed, 2472 parameters\n"), done.stderr
    assert (tmp_path / "data.json").read_bytes() == DATA.read_bytes()


NO_FLAW: tuple[JsonObject, str] = ({}, "")
BAD_FACTS: list[tuple[str | JsonObject, str]] = [
    ("{", "truncated"),
    ("[]", "Expected `object`, got `array`"),
    ({"endpoint": None}, "Expected `str`, got `null`"),
    ({"price": 1}, "unknown field `price`"),
    ({"params": [{"name": "a", "type": "text"}]}, "Invalid enum value 'text'"),
    ({"params": [{"name": "a", "type": "string", "size": 1}]}, "unknown field `size`"),
    ({"endpoint": ""}, "a name and an endpoint"),
    ({"params": [{"name": "a", "type": "string"}, {"name": "a", "type": "string"}]}, "the name of two parameters"),
    ({"params": [{"name": "a", "type": "string"}], "later_params": ["a"]}, "the name of two parameters"),
    ({"params": [{"name": "a", "type": "string", "enum": ["x"], "default": "y"}]}, "expected one of x"),
    ({"params": [{"name": "a", "type": "integer", "default": True}]}, "expected a whole number, got true"),
    ({"params": [{"name": "a", "type": "integer", "min": 9, "max": 3}]}, "the least is above the most"),
    ({"params": [{"name": "a", "type": "number", "step": 0}]}, "a step is above 0"),
    ({"params": [{"name": "a", "type": "number", "enum": ["1"]}]}, "only texts have an enum"),
    ({"params": [{"name": "a", "type": "string", "max": 1}]}, "only numbers have a range"),
    ({"params": [{"name": "a", "type": "string", "max_items": 1}]}, "only lists have a number of items"),
    ({"params": [{"name": "a", "type": "string", "enum": ["x", "y"], "enum_codes": ["1"]}]}, "a code for all or none"),
    ({"endpoint": "/openapi/v2/m/1/"}, "m/1: was told in line 1 already"),
]


def test_bad_facts_are_named_with_their_lines_and_change_nothing(tmp_path: Path) -> None:
    sound: JsonObject = {"name": "m", "group": [], "output": "video", "listed": True, "params": []}
    lines = [
        fact if isinstance(fact, str) else msgspec.json.encode({**sound, "endpoint": f"m/{number}", **fact}).decode()
        for number, (fact, _) in enumerate([NO_FLAW, *BAD_FACTS], 1)
    ]
    (tmp_path / "facts.jsonl").write_text("\n".join(lines))
    done = rebuild(tmp_path / "facts.jsonl", tmp_path / "data.json")
    told = done.stderr.splitlines()
    assert done.returncode == 1
    assert len(told) == len(BAD_FACTS)
    for number, (line, (_, expected)) in enumerate(zip(told, BAD_FACTS, strict=True), 2):
        assert f"facts.jsonl:{number}: " in line
        assert expected in line
    assert not (tmp_path / "data.json").exists()


# ---------------------------------------------------------------- finding


@pytest.mark.parametrize(
    "name",
    [
        VEO,
        f"/{VEO}/",
        f"/openapi/v2/{VEO}",
        f" openapi/v2/{VEO.upper()} ",
        "google/veo3.1-pro/reference-to-video-official-stable",
        "Google/Veo3.1-Pro/Reference-To-Video-Official-Stable",
    ],
)
def test_a_model_is_found_by_whatever_it_is_called(name: str) -> None:
    found = find(name)
    assert found.model.endpoint == VEO
    assert found.note is None


def test_every_endpoint_finds_its_own_model_and_every_name_a_model_of_that_name() -> None:
    for model in models():
        assert find(model.endpoint).model is model
        assert find(model.name).model.name == model.name
        assert (find(model.name).note is not None) == (model.name in TWICE)
        assert find(model.endpoint.swapcase()).model is model
        assert find(model.name.swapcase()).model is find(model.name).model
        for other in model.alt_endpoints:
            assert find(other).model in (model, next((each for each in models() if each.endpoint == other), model))


@pytest.mark.parametrize("name", ["sora-2/text-to-video-channel-low-price", "SORA-2/Text-to-Video-channel-low-price"])
def test_a_name_that_occurs_twice_is_the_model_that_is_not_withdrawn_and_says_so(name: str) -> None:
    found = find(name)
    assert found.model.endpoint == "rhart-video-s/text-to-video"
    assert found.note == (
        f"{name} is the name of 2 models: took rhart-video-s/text-to-video, not rhart-video-s/text-to-video-deprecated"
    )


def test_of_models_with_one_name_a_documented_one_is_meant_and_one_that_is_not_withdrawn() -> None:
    newer, withdrawn, second, first = (
        Model(endpoint, "a name", (), "video", listed)
        for endpoint, listed in [("a", False), ("b/[Deprecated]", True), ("d", True), ("c", True)]
    )
    assert catalogue.of_record([newer, withdrawn, second, first]) == [first, second, withdrawn, newer]


def test_another_endpoint_of_a_model_says_which_one_is_taken() -> None:
    found = find("/openapi/v2/rh/video-upscaler")
    assert found.model.endpoint == "rhart-video/video-upscaler"
    assert found.note == "rh/video-upscaler is another endpoint of rh-video-upscaler: took rhart-video/video-upscaler"


@pytest.mark.parametrize(
    "name", ["rh/video-upscaler", "RH/Video-Upscaler", "/openapi/v2/rh/video-upscaler", "RH-Video-Upscaler"]
)
def test_a_list_is_filtered_by_every_name_under_which_an_order_is_taken(name: str) -> None:
    assert catalogue.endpoint_of(name) == find(name).model.endpoint == "rhart-video/video-upscaler"


def test_a_filter_that_names_no_model_stays_as_it_is() -> None:
    assert catalogue.endpoint_of("1900000000000000050") == "1900000000000000050"


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("google/veo3.1-pro/refrence-to-video-official-stable", "google/veo3.1-pro/reference-to-video-official-stable"),
        ("rhart-video-v3.1-pro-oficial/reference-to-video", VEO),
        ("hailuo-h3", "minimax/hailuo-h3/text-to-video"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(UnknownModel) as refusal:
        find(name)
    assert nearest in refusal.value.nearest
    assert len(refusal.value.nearest) <= 5
    assert nearest in str(refusal.value)


@pytest.mark.parametrize("name", ["", "/", "?" * 100_000, "\x00\ud800"])
def test_nonsense_is_an_unknown_model(name: str) -> None:
    with pytest.raises(UnknownModel) as refusal:
        find(name)
    assert len(str(refusal.value)) < 1000


def test_searching_takes_a_part_or_a_pattern() -> None:
    assert {model.endpoint for model in search("Veo3.1-PRO/reference")} == {VEO}
    assert {model.endpoint for model in search("rhart-video-v3.1-pro-official/*")} > {VEO}
    assert {model.output for model in search("3d")} >= {"3d"}
    assert len(search("google/veo?.1-pro/reference*")) == 1
    assert [model.endpoint for model in search("edit-[deprecated]")] == ["rhart-image-g-1.5/edit-[Deprecated]"]
    assert len(search("")) == len(search("*")) == 434
    assert search("no such model") == []


# ---------------------------------------------------------------- judging an input


def test_the_documented_example_with_three_mistakes_has_three_problems() -> None:
    given: JsonObject = {
        "prompt": "Use the first image as the background.",
        "imageUrls": [f"https://example.com/{number}.jpg" for number in range(4)],
        "resolution": "1080",
        "generateAudo": False,
    }
    (images, too_many), *others = validate(find(VEO).model, given)
    assert images == "imageUrls[3]"
    assert "at most 3 items" in too_many
    assert too_many.endswith("got 4 items")
    assert others == [
        ("resolution", 'expected one of 720p, 1080p, 4k, got "1080"; the nearest is "1080p"'),
        ("generateAudo", "there is no such parameter; did you mean generateAudio, which is required?"),
    ]

    given |= {"generateAudio": False, "negativePromt": "rain"}
    del given["generateAudo"]
    assert paths(find(VEO).model, given) == ["imageUrls[3]", "resolution", "negativePromt"]


IMAGE = a_param(media="image", accept=("JPG", "PNG"), max_size_mb=1)
SOUND = a_param(media="audio", accept=("MP3", "M4A"))
DURATION = a_param(enum=("4", "6", "8"))
SHADE = a_param(enum=("720P", "1080P"), ignore_case=True)
CODED = a_param(enum=("5", "8"), enum_codes=("1", "2"), alias="130##select")
COUNT = a_param(Type.INTEGER, min=2, max=10)
WIDTH = a_param(Type.INTEGER, min=512, max=1030, step=8)
SHARE = a_param(Type.NUMBER, min=0, max=1, step=0.1)
SEED = a_param(Type.INTEGER)
SWITCH = a_param(Type.BOOLEAN)
THING = a_param(Type.OBJECT)
THINGS = a_param(Type.OBJECTS, max_items=2)
IMAGES = a_param(Type.STRINGS, media="image", min_items=2, max_items=3)
TAGS = a_param(Type.STRINGS, enum=("all", "first", "last"))
PNG = "data:image/png;base64,aGVsbG8="
LINK = "https://example.com/a.jpg"


@pytest.mark.parametrize(
    ("param", "value"),
    [
        (IMAGE, LINK),
        (IMAGE, "http://example.com/view?filename=a.mp4&type=input#x"),
        (IMAGE, "https://example.com/a.unknown"),
        (IMAGE, PNG),
        (IMAGE, "DATA:IMAGE/JPEG;name=a.jpg;base64,aGVsbG8="),
        (IMAGE, "@holiday photos/one, two.jpg"),
        (IMAGE, "upload:01a205ac"),
        (IMAGE, "asset://20"),
        (SOUND, "data:audio/mpeg;base64,aGVsbG8="),
        (SOUND, "data:audio/x-m4a;base64,aGVsbG8="),
        (SHADE, "720p"),
        (CODED, "5"),
        (CODED, "2"),
        (COUNT, 2),
        (SHARE, 1),
        (SHARE, 0.1 + 0.2),
        (SEED, 2**63 - 1),
        (WIDTH, 520),
        (THING, {"any": ["thing"]}),
        (THINGS, [{}, {"a": 1}]),
        (IMAGES, [LINK, PNG, "@a.png"]),
        (TAGS, ["all", "last"]),
        (a_param(enum=("", "en")), ""),
        (a_param(max_length=3), "\U0001f600" * 3),
    ],
)
def test_what_suits_a_parameter_has_no_problem(param: Param, value: Json) -> None:
    assert validate(a_model(param), {"it": value}) == []


@pytest.mark.parametrize(
    ("param", "value", "path", "nearest", "message"),
    [
        (IMAGE, "example.com/a.jpg", "it", None, "expected a link, data URI or @file of an image (JPG, PNG), got"),
        (IMAGE, "https://", "it", None, "expected a link"),
        (IMAGE, "@", "it", None, "expected a link"),
        (IMAGE, "ftp://example.com/a.jpg", "it", None, "expected a link"),
        (IMAGE, "https://example.com/a.MP4?x=a.jpg", "it", None, "got a link to a video"),
        (IMAGE, "data:image/gif;base64,aGVsbG8=", "it", None, "got image/gif"),
        (IMAGE, "data:audio/png;base64,aGVsbG8=", "it", None, "got audio/png"),
        (IMAGE, "data:image/png,hello", "it", None, "expected a link"),
        (IMAGE, "data:image/png;base64,", "it", None, "expected a link"),
        (IMAGE, PNG + "A" * 1_500_000, "it", None, "expected at most 1 MB, got 1.1 MB"),
        (IMAGE, [LINK], "it", None, "got a list of 1"),
        (SOUND, "data:audio/wav;base64,aGVsbG8=", "it", None, "got audio/wav"),
        (DURATION, "7", "it", "6", 'expected one of 4, 6, 8, got "7"; the nearest is "6"'),
        (DURATION, "100", "it", "8", "the nearest"),
        (DURATION, 8, "it", "8", 'expected one of 4, 6, 8, got 8; the nearest is "8"'),
        (DURATION, 7, "it", None, "expected one of 4, 6, 8, got 7"),
        (SHADE, "720", "it", "720P", "the nearest"),
        (DURATION, "zzz", "it", None, 'got "zzz"'),
        (a_param(min_length=5, max_length=9), "four", "it", None, "expected a text of 5 to 9 characters, got 4"),
        (a_param(max_length=9), "0123456789", "it", None, "expected a text of at most 9 characters, got 10"),
        (a_param(), "", "it", None, "is empty; leave it out instead"),
        (a_param(), None, "it", None, "is empty; leave it out instead"),
        (a_param(required=True), "", "it", None, "is required: a text"),
        (a_param(), True, "it", None, "expected a text, got true"),
        (a_param(), 5, "it", "5", 'got 5; the nearest is "5"'),
        (COUNT, 1, "it", 2, "expected a whole number, 2 to 10, got 1; the nearest is 2"),
        (COUNT, 10**400, "it", None, "got a number beyond measure"),
        (COUNT, "3", "it", 3, 'got "3"; the nearest is 3'),
        (COUNT, "11", "it", None, 'got "11"'),
        (COUNT, 3.0, "it", 3, "got 3.0"),
        (COUNT, 3.5, "it", None, "got 3.5"),
        (COUNT, True, "it", None, "got true"),
        (WIDTH, 1030, "it", 1024, "in steps of 8"),
        (WIDTH, 9999, "it", 1024, "512 to 1030"),
        (a_param(Type.INTEGER, min=3, step=5), 12, "it", 13, "a whole number, at least 3 in steps of 5, got 12"),
        (SHARE, 0.25, "it", 0.2, "in steps of 0.1, got 0.25"),
        (SHARE, float("nan"), "it", None, "got a number beyond measure"),
        (SHARE, 1e300, "it", 1, "the nearest is 1"),
        (SWITCH, "true", "it", True, 'expected true or false, got "true"; the nearest is true'),
        (SWITCH, 0, "it", None, "got 0"),
        (THING, "{}", "it", {}, "expected an object"),
        (THING, [1], "it", None, "expected an object"),
        (THINGS, {}, "it", [{}], "expected a list of at most 2 items, each an object, got an object"),
        (THINGS, [{}, 1], "it[1]", None, "expected an object, got 1"),
        (THINGS, [{}] * 4, "it[2]", None, "got 4 items"),
        (IMAGES, [LINK], "it", None, "expected a list of 2 to 3 items"),
        (IMAGES, [LINK, "nowhere"], "it[1]", None, "expected a link"),
        (IMAGES, [LINK, None], "it[1]", None, "expected a link"),
        (IMAGES, [], "it", None, "is empty"),
        (IMAGES, f"{LINK},{LINK}", "it", [LINK, LINK], "expected a list"),
        (TAGS, ["all", "lost"], "it[1]", "last", 'got "lost"; the nearest is "last"'),
    ],
)
def test_what_does_not_suit_is_named_with_the_nearest(
    param: Param, value: Json, path: str, nearest: Json, message: str
) -> None:
    ((place, said),) = validate(a_model(param), {"it": value})
    assert place == path
    assert said.partition("; the nearest is ")[2] == ("" if nearest is None else in_words(nearest))
    assert message in said
    assert len(said) < 300


def in_words(value: Json) -> str:
    """A value as a sentence names it."""
    match value:
        case dict():
            return "an object"
        case list():
            return f"a list of {len(value)}"
    return msgspec.json.encode(value).decode()


def test_a_required_parameter_is_required_although_its_default_is_known() -> None:
    problems = validate(a_model(a_param(enum=("a", "b"), default="b", required=True)), {})
    assert problems == [("it", 'is required: one of a, b; usual is "b"')]


def test_a_misspelling_counts_once_even_where_the_right_name_is_required() -> None:
    model = a_model(
        Param(name="resolution", type=Type.STRING, required=True),
        Param(name="firstImageUrl", type=Type.STRING),
        Param(name="lastImageUrl", type=Type.STRING),
    )
    assert paths(model, {"Resolution": "1k"}) == ["Resolution"]
    assert paths(model, {"qqqq": "1k"}) == ["resolution", "qqqq"]
    problems = validate(model, {"resolution": "1k", "lastImageUrl": LINK, "imageUrl": LINK})
    assert problems == [("imageUrl", "there is no such parameter; did you mean firstImageUrl?")]


def test_a_parameter_goes_by_its_name_or_its_alias_but_not_by_both() -> None:
    assert paths(a_model(CODED), {"130##select": "2"}) == []
    assert paths(a_model(CODED), {"130##select": "9"}) == ["130##select"]
    assert paths(a_model(CODED), {"it": "5", "130##select": "2"}) == ["130##select"]


def test_where_the_facts_end_anything_will_do() -> None:
    assert paths(a_model(SEED, later=("realPersonMode",)), {"realPersonMode": [None]}) == []
    assert paths(a_model(), {"whatever": 1}) == []
    assert paths(a_model(SEED), {"webhookUrl": "https://example.com"}) == []


def test_accepted_media_types_are_known_for_uploads() -> None:
    assert accepts(IMAGE, "image/jpeg")
    assert not accepts(IMAGE, "image/webp")
    assert accepts(a_param(media="video"), "video/quicktime")
    assert not accepts(a_param(media="video"), "image/png")


# ---------------------------------------------------------------- all models


def test_every_example_is_valid_and_says_something() -> None:
    for model in models():
        assert validate(model, example(model)) == [], model.endpoint
        assert validate(model, example(model, full=True)) == [], model.endpoint
        assert example(model) or not model.params


def some_value(param: Param, dice: random.Random) -> Json:
    """Anything that a parameter's facts allow, worked out apart from the code that judges it."""
    match param.type:
        case Type.BOOLEAN:
            return dice.random() < 0.5
        case Type.OBJECT:
            return {"key": "value"}
        case Type.OBJECTS:
            return [{"key": dice.random()} for _ in range(dice.randint(1, param.max_items or 3))]
        case Type.STRINGS:
            return [some_text(param, dice) for _ in range(dice.randint(param.min_items or 1, param.max_items or 3))]
        case Type.STRING:
            return some_text(param, dice)
    low = param.min if param.min is not None else (param.max or 0) - 1000 * (param.step or 1)
    high = param.max if param.max is not None else low + 1000 * (param.step or 1)
    if param.step is None and param.type is Type.NUMBER:
        return dice.choice([low, high, dice.uniform(low, high)])
    step = param.step or 1
    return low + step * dice.randint(0, round((high - low) / step))


def some_text(param: Param, dice: random.Random) -> str:
    if param.media is not None:
        kind = dice.choice(param.accept or ["x-new"]).lower()
        kind = {"jpg": "jpeg", "mov": "quicktime", "avi": "x-msvideo", "mp3": "mpeg", "m4a": "mp4"}.get(kind, kind)
        return dice.choice(
            [f"http://a.example/{dice.random()}", f"data:{param.media}/{kind};base64,AAAA", "@a/b.c", "upload:1"]
        )
    if param.enum:
        choice = dice.choice(param.enum + param.enum_codes)
        return choice.swapcase() if param.ignore_case else choice
    low = param.min_length or 1
    high = param.max_length or 9999
    return dice.choice("aé😀 ") * dice.choice([low, min(high, low + 1), min(high, 80), high])


@settings(MODEST, max_examples=10)
@given(st.integers(min_value=0))
def test_any_input_made_of_a_models_facts_is_valid(seed: int) -> None:
    dice = random.Random(seed)
    for model in models():
        chosen = [param for param in model.params if param.required or dice.random() < 0.5]
        given = {dice.choice([param.name, param.alias or param.name]): some_value(param, dice) for param in chosen}
        assert validate(model, given) == [], (model.endpoint, given)


def breaches(param: Param) -> Iterator[tuple[Json, str]]:
    """Values that break one fact each, and where that shows, from the parameter's name on."""
    if param.type in (Type.OBJECTS, Type.STRINGS):
        yield from bad_lists(param)
        return
    values: list[Json] = ["true", 1, None, ["a"]]
    if param.type is Type.STRING:
        values = [["a"], {}, False, None, *bad_texts(param)]
    elif param.type in (Type.INTEGER, Type.NUMBER):
        values = ["1", True, [], None, *bad_numbers(param)]
    for value in values:
        yield value, ""


def bad_lists(param: Param) -> Iterator[tuple[Json, str]]:
    item: Json = {} if param.type is Type.OBJECTS else some_text(param, random.Random(0))
    yield 5, ""
    yield [], ""
    yield [5], "[0]"
    if param.max_items is not None:
        yield [item] * (param.max_items + 1), f"[{param.max_items}]"
    if param.type is Type.STRINGS:
        for text in bad_texts(param):
            yield [text], "[0]"


def bad_texts(param: Param) -> Iterator[Json]:
    if param.media is not None:
        other = {"image": "video/mp4", "video": "audio/mpeg", "audio": "image/png"}[param.media]
        yield from ("a.png", "ftp://a.example/a", f"data:{other};base64,AAAA", "data:,", "@", "upload:")
        yield {"image": "https://a.example/a.mp4", "video": LINK, "audio": LINK}[param.media]
    elif param.enum:
        yield "no such choice"
    else:
        yield ""
        if (param.min_length or 0) > 1:
            yield "a" * ((param.min_length or 0) - 1)
        if param.max_length is not None:
            yield "a" * (param.max_length + 1)


def bad_numbers(param: Param) -> Iterator[Json]:
    step = param.step or 1
    if param.min is not None:
        yield param.min - step
    if param.max is not None:
        yield param.max + step
    if param.type is Type.INTEGER or param.step is not None:
        start = param.min if param.min is not None else 0
        yield start + step / 2


def test_any_single_broken_fact_is_refused_where_it_is_broken() -> None:
    for model in models():
        sound = example(model)
        for param in model.params:
            for value, place in breaches(param):
                given = {**sound, param.name: value}
                assert paths(model, given) == [f"{param.name}{place}"], (model.endpoint, param, str(value)[:80])
            if param.required:
                without = {name: value for name, value in sound.items() if name != param.name}
                assert paths(model, without) == [param.name], (model.endpoint, param)
        if model.params:
            assert paths(model, {**sound, "Ωmega": 1}) == ["Ωmega"], model.endpoint


NESTED = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)


@settings(MODEST, max_examples=40)
@given(st.sampled_from(models()), st.data())
def test_no_input_whatever_is_more_than_wrong(model: Model, data: st.DataObject) -> None:
    names = st.sampled_from([*(param.name for param in model.params), "prompt"]) | st.text(max_size=9)
    given = data.draw(st.dictionaries(names, NESTED, max_size=6))
    problems = validate(model, given)
    assert len(problems) <= 50
    assert all(message for _, message in problems)
    assert len(msgspec.json.encode(problems)) < 60_000


def test_a_hostile_input_is_answered_briefly_and_soon() -> None:
    given: JsonObject = {f"imageUrl{number}": "x" * 1000 for number in range(5000)}
    given |= {"x" * 100_000: 1, "imageUrls": ["x"] * 100_000, "prompt": "data:" + ";a=b" * 100_000}
    problems = validate(find(VEO).model, given)
    assert len(problems) == 50
    assert len(msgspec.json.encode(problems)) < 60_000


# ---------------------------------------------------------------- the command line


@pytest.mark.parametrize(
    ("param", "text", "value"),
    [
        (SEED, "42", 42),
        (SEED, " -7 ", -7),
        (SEED, "4.0", "4.0"),
        (SEED, "many", "many"),
        (SHARE, "0.5", 0.5),
        (SHARE, "1", 1),
        (SHARE, "1e-1", 0.1),
        (SHARE, "nan", "nan"),
        (SWITCH, "Yes", True),
        (SWITCH, "false", False),
        (SWITCH, "1", "1"),
        (a_param(), "42", "42"),
        (a_param(), "true", "true"),
        (a_param(), '{"a": 1}', '{"a": 1}'),
        (IMAGE, "@a,b.png", "@a,b.png"),
        (IMAGES, LINK, [LINK]),
        (IMAGES, f"{LINK}?a=1,2,{PNG},@b,c.png", [f"{LINK}?a=1,2", PNG, "@b,c.png"]),
        (IMAGES, [PNG, "@a,@b"], [PNG, "@a,@b"]),
        (IMAGES, f'["{LINK}"]', [LINK]),
        (IMAGES, "", []),
        (TAGS, "first, last", ["first", "last"]),
        (THING, '{"a": 1}', {"a": 1}),
        (THING, "{", "{"),
        (THINGS, '[{"a": 1}]', [{"a": 1}]),
        (THINGS, '{"a": 1}', [{"a": 1}]),
        (THINGS, ['{"a": 1}', "{}"], [{"a": 1}, {}]),
        (THINGS, "a", "a"),
        (SEED, ["1", "2"], [1, 2]),
    ],
)
def test_a_text_takes_its_type_from_the_catalogue(param: Param, text: str | list[str], value: Json) -> None:
    found = coerce(a_model(param), "it", text)
    assert found == value
    assert type(found) is type(value)


def test_without_facts_a_text_is_json_if_it_can_be() -> None:
    assert coerce(a_model(), "it", '{"a": 1}') == {"a": 1}
    assert coerce(a_model(), "it", "a word") == "a word"
    assert coerce(a_model(), "it", ["1", "\udcff"]) == [1, "\udcff"]
    assert coerce(a_model(CODED), "130##select", "2") == "2"
