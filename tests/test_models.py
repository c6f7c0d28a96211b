"""The catalogue at the doors: models by any name, inputs checked before money is spent, and a way past it."""

import shlex
from functools import partial

import msgspec
import pytest
from click.testing import CliRunner
from house import ADMIN_TOKEN, INPUT, MODEL, House

from receiver.cli import main
from receiver.cli.inputs import read_input
from receiver.cli.models import order_of
from receiver.model.records import JsonObject
from receiver.model.views import ModelView
from receiver.runninghub.catalogue import coerce, example, find, models

pytestmark = pytest.mark.story

NAME = "google/veo3.1-pro/reference-to-video-official-stable"
LINK = "https://example.com/one.jpg"


async def test_the_documents_example_with_three_mistakes_gets_one_answer_with_three_problems(house: House) -> None:
    wrong: JsonObject = {
        "prompt": INPUT["prompt"],
        "imageUrls": [LINK, LINK, LINK, LINK],
        "resolution": "1080",
        "generateAudo": False,
    }
    answer = await house.api.post("/tasks", json={"target": NAME, "input": wrong})
    assert answer.status_code == 422
    problems = {each["path"]: each["message"] for each in answer.json()["error"]["details"]}
    assert set(problems) == {"input.imageUrls[3]", "input.resolution", "input.generateAudo"}
    assert "1080p" in problems["input.resolution"]
    assert "generateAudio" in problems["input.generateAudo"]
    await house.advance(10)
    assert house.simulator.requests == []


async def test_a_model_is_found_by_its_name_and_kept_by_its_endpoint(house: House) -> None:
    answer = await house.api.post("/tasks", json={"target": NAME, "input": INPUT})
    assert (answer.status_code, answer.json()["target"], answer.json()["note"]) == (202, MODEL, None)


async def test_a_name_of_two_models_says_which_one_was_taken(house: House) -> None:
    shared = next(
        model for model in models() if "deprecated" in model.endpoint.lower() and names().count(model.name) > 1
    )
    answer = await house.api.get(f"/models/{shared.name}")
    found = msgspec.json.decode(answer.content, type=ModelView)
    assert found.endpoint != shared.endpoint
    assert shared.endpoint in str(found.note)


def names() -> list[str]:
    return [model.name for model in models()]


async def test_a_misspelt_model_is_refused_with_the_nearest_names(house: House) -> None:
    answer = await house.api.post("/tasks", json={"target": NAME.replace("veo", "veoo"), "input": INPUT})
    (problem,) = answer.json()["error"]["details"]
    assert problem["path"] == "target"
    assert NAME in problem["message"]
    assert (await house.api.get("/models/gogle/veo3.1")).status_code == 404


async def test_unchecked_anything_passes_for_a_known_model_and_for_one_that_no_catalogue_has(house: House) -> None:
    for target in (NAME, "some/model-of-tomorrow"):
        order = {"target": target, "input": {"anything": 1}, "validate": False}
        assert (await house.api.post("/tasks", json=order)).status_code == 202
    await house.settle()
    assert house.simulator.count("submit") == 2


async def test_the_catalogue_is_listed_searched_and_shown(house: House) -> None:
    everything = (await house.api.get("/models")).json()["items"]
    assert len(everything) == len(models())
    found = (await house.api.get("/models", params={"q": "reference-to-video"})).json()["items"]
    assert 0 < len(found) < len(everything)
    shown = (await house.api.get(f"/models/{NAME}")).json()
    assert shown["endpoint"] == MODEL
    assert {"name": "resolution", "required": True}.items() <= shown["params"][4].items()


@pytest.mark.asyncio(loop_scope="module")
async def test_every_documented_model_takes_its_example_by_its_name(shared_house: House) -> None:
    listed = [model for model in models() if model.listed]
    assert len(listed) == 225
    for model in listed:
        answer = await shared_house.api.post("/tasks", json={"target": model.endpoint, "input": example(model)})
        assert answer.status_code == 202, (model.name, answer.text)


def test_the_command_line_shows_a_model_with_a_command_that_orders_it() -> None:
    shown = CliRunner().invoke(main, ["models", NAME]).output
    assert f"receiver submit {MODEL} " in shown
    assert "generateAudio" in shown


def test_the_command_shown_for_a_model_orders_its_example_whatever_has_to_be_quoted_in_it() -> None:
    for model in models():
        _, _, endpoint, *pairs = shlex.split(order_of(model.endpoint, example(model)))
        assert read_input(None, None, pairs, partial(coerce, find(endpoint).model)) == example(model), model.endpoint


def test_every_choice_of_a_parameter_is_shown_however_many_there_are() -> None:
    model = next(model for model in models() if any(len(param.enum) > 16 for param in model.params))
    param = next(param for param in model.params if len(param.enum) > 16)
    shown = CliRunner().invoke(main, ["models", model.endpoint])
    assert f"\n{param.name} is one of {', '.join(param.enum)}\n" in shown.output
    few = CliRunner().invoke(main, ["models", NAME])
    assert "is one of" not in few.output
    told = msgspec.json.decode(CliRunner().invoke(main, ["models", NAME, "--json"]).output, type=ModelView)
    assert next(each.choices for each in told.params if each.name == "resolution") == ["720p", "1080p", "4k"]


def test_the_command_line_lists_models_by_a_part_of_their_names() -> None:
    result = CliRunner().invoke(main, ["models", "lip-sync"])
    assert result.exit_code == 0
    assert "kling-lip-sync" in result.output
    nothing = CliRunner().invoke(main, ["models", "no-such-thing-at-all"])
    assert nothing.exit_code == 3


def test_no_token_is_needed_for_what_needs_no_server() -> None:
    result = CliRunner().invoke(main, ["models", NAME, "--json"], env={"RECEIVER_URL": "http://127.0.0.1:1"})
    assert msgspec.json.decode(result.output, type=ModelView).endpoint == MODEL
    assert ADMIN_TOKEN not in result.output
