"""Files on the command line, and what stands around an order: uploads, dry runs, apps and workflows."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from house import INPUT, MODEL
from offering import APP, WORKFLOW, Offering, beginning
from starlette.applications import Starlette
from test_cli import Operator
from test_client import RunningServer

from receiver.client import Client
from receiver.model.rules import UPLOAD_LIMIT

pytestmark = pytest.mark.story

PICTURE = bytes(range(256)) * 2000


class OfferingServer(RunningServer):
    """A server at whose provider files are to be had, and no tasks."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.offering = Offering()

    def transport(self, provider: Starlette) -> httpx.AsyncBaseTransport:
        return self.offering.transport()


class Shell(Operator):
    """Somebody at a shell with a few files of their own. Every file is another one each time."""

    offering: Offering

    def __init__(self, server: OfferingServer, home: Path) -> None:
        super().__init__(server)
        self.offering = server.offering
        self.home = home

    def file(self, name: str, content: bytes = PICTURE) -> str:
        path = self.home / name
        path.write_bytes(content and beginning(name) + content + str(path).encode(errors="replace"))
        return str(path)

    def ordered(self, *words: str) -> dict[str, object]:
        """The input of an order as the server took it."""
        given: dict[str, object] = json.loads(self("submit", *words, "--json").stdout)["input"]
        return given

    def links(self, *words: str) -> list[str]:
        """The images of an order as the server took it."""
        links = self.ordered(*words)["imageUrls"]
        assert isinstance(links, list)
        return links

    def refused(self, *words: str) -> str:
        """What is said of an order that sends nothing to anybody."""
        asked = len(self.offering.asked)
        said = self("submit", *words, code=2).stderr
        new = [path for path in self.offering.asked[asked:] if "upload" in path]
        assert new == []
        return said


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OfferingServer]:
    server = OfferingServer(tmp_path_factory.mktemp("server"))
    with server.running():
        yield server


@pytest.fixture
def shell(server: OfferingServer, tmp_path: Path) -> Shell:
    return Shell(server, tmp_path)


REST = ("prompt=a lighthouse", "resolution=1080p", "generateAudio=false")


# ---------------------------------------------------------------- upload


def test_files_are_uploaded_and_their_ids_printed(shell: Shell) -> None:
    files = [shell.file("one.png"), shell.file("two words.jpg")]
    result = shell("upload", *files)
    ids = result.stdout.split()
    assert [name for name, _ in shell.offering.files[-2:]] == ["one.png", "two words.jpg"]
    assert shell.offering.files[-2][1] == Path(files[0]).read_bytes()
    assert all(each.startswith("upload:") for each in ids)
    again = json.loads(shell("upload", *files, "--json").stdout)
    assert [each["id"] for each in again] == ids
    assert again[0]["name"] == "one.png"


def test_files_that_cannot_be_sent_are_all_named_before_any_is(shell: Shell) -> None:
    asked = len(shell.offering.asked)
    good, empty, missing = shell.file("good.png"), shell.file("empty.png", b""), str(shell.home / "no.png")
    huge = shell.home / "huge.mp4"
    with huge.open("wb") as file:
        file.truncate(UPLOAD_LIMIT + 1)
    told = shell("upload", good, empty, missing, str(huge), str(shell.home), code=2).stderr
    for part in ("empty.png: is empty", "no.png: there is no such file", "larger than 100 MiB", "is no file"):
        assert part in told
    assert len(shell.offering.asked) == asked


def test_the_client_tells_how_far_an_upload_is(server: OfferingServer, shell: Shell) -> None:
    path = Path(shell.file("far.png"))
    seen: list[tuple[int, int | None]] = []
    with Client(server.url, server.token) as client:
        made = client.upload(path, lambda done, total: seen.append((done, total)))
    size = path.stat().st_size
    assert (seen[-1], made.size) == ((size, size), size)
    assert len(seen) > 1


def test_a_file_whose_name_is_no_unicode_can_be_sent(shell: Shell) -> None:
    file = shell.file("one-\udcff.png")
    assert shell("upload", file).stdout.startswith("upload:")
    assert shell.offering.files[-1][0] == "one-?.png"


# ---------------------------------------------------------------- submit


def test_a_file_in_an_order_is_uploaded_and_becomes_a_link(shell: Shell) -> None:
    one, two = shell.file("one.png"), shell.file("two.png")
    words = [f"imageUrls=@{one}", "imageUrls=https://x.test/a.png", f"imageUrls=@{two}"]
    links = [link.partition("openapi/")[0] for link in shell.links(MODEL, *REST, *words)]
    assert links == ["https://files.test/", "https://x.test/a.png", "https://files.test/"]
    assert [name for name, _ in shell.offering.files[-2:]] == ["one.png", "two.png"]


def test_the_same_file_twice_is_sent_once(shell: Shell) -> None:
    file, sent = shell.file("twice.png"), len(shell.offering.files)
    first, second = shell.links(MODEL, *REST, f"imageUrls=@{file},@{file}")
    assert first == second
    assert len(shell.offering.files) == sent + 1


def test_a_file_in_a_body_counts_as_well(shell: Shell) -> None:
    body = json.dumps({**INPUT, "imageUrls": [f"@{shell.file('body.png')}"]})
    (link,) = shell.links(MODEL, "--input", body)
    assert link.startswith("https://files.test/")


def test_a_file_in_a_node_becomes_the_providers_name_of_it(shell: Shell) -> None:
    file = shell.file("face.png")
    given = shell.ordered("--app", APP, "--node", f"3.image=@{file}", "--node", "6.text=@@lighthouse")
    assert isinstance(given["nodeInfoList"], list)
    image, text = (node["fieldValue"] for node in given["nodeInfoList"])
    assert image.startswith("openapi/")
    assert text == "@lighthouse"


@pytest.mark.parametrize("as_text", [False, True], ids=["object", "text"])
def test_files_and_uploads_in_a_whole_workflow_become_the_providers_names_of_them(shell: Shell, as_text: bool) -> None:
    one = shell.file("graph.png")
    (two,) = shell("upload", shell.file("mask.png")).stdout.split()
    sent = len(shell.offering.files)
    inputs = {"image": f"@{one}", "mask": two, "text": "@@me", "from": ["6", 0]}
    graph = {"9": {"class_type": "LoadImage", "inputs": inputs}}
    document = {"workflow": json.dumps(graph) if as_text else graph}
    given = json.loads(str(shell.ordered("--workflow", WORKFLOW, "--input", json.dumps(document))["workflow"]))
    found = given["9"]["inputs"]
    assert found["image"].startswith("openapi/")
    assert found["mask"].startswith("openapi/")
    assert found["image"] != found["mask"]
    assert (found["text"], found["from"], given["9"]["class_type"]) == ("@me", ["6", 0], "LoadImage")
    assert len(shell.offering.files) == sent + 1


def test_a_text_with_an_at_sign_is_a_text_where_no_file_is_expected(shell: Shell) -> None:
    link = "imageUrls=https://x.test/a.png"
    assert shell.ordered(MODEL, *REST[1:], link, "prompt=@somebody")["prompt"] == "@somebody"


def test_a_parameter_that_nobody_knows_may_take_a_file(shell: Shell) -> None:
    given = shell.ordered("newer/model", "--force", f"image=@{shell.file('new.png')}", "text=@@x")
    assert str(given["image"]).startswith("https://files.test/")
    assert given["text"] == "@x"


def test_a_data_uri_is_uploaded_by_the_server(shell: Shell) -> None:
    uri = "data:image/png;base64,iVBORw0KGgo="
    (link,) = shell.links(MODEL, *REST, f"imageUrls={uri}")
    assert link.startswith("https://files.test/")


def test_everything_that_is_wrong_with_files_is_told_before_any_is_sent(shell: Shell) -> None:
    good, song = shell.file("good.png"), shell.file("song.mp3")
    said = shell.refused(MODEL, *REST, f"imageUrls=@{good},@{song},@{shell.home}/no.png")
    assert "input.imageUrls[1]: expected an image" in said
    assert "input.imageUrls[2]" in said
    assert "there is no such file; for the text itself write @@" in said
    said = shell.refused(MODEL, "prompt=x", "resolution=9", f"imageUrls=@{good}")
    assert "input.resolution" in said
    assert "there is no such file" in shell.refused("--app", APP, "--node", "3.image=@no-such.png")


def test_no_file_is_sent_for_an_order_that_would_be_refused(shell: Shell) -> None:
    file = shell.file("good.png")
    said = shell.refused(MODEL.replace("reference", "refrence"), *REST, f"imageUrls=@{file}")
    assert f"  target: there is no model {MODEL.replace('reference', 'refrence')}; the nearest are {MODEL}" in said
    said = shell.refused(MODEL, *REST, f"imageUrls=@{file}", "--label", f"n={'x' * 201}")
    assert "  labels.n: expected a text of 200 characters at the most" in said
    said = shell.refused("--app", "me", "instanceType=huge", "--node", f"3.image=@{file}")
    assert "  target: expected the id of an AI app" in said
    assert "  input.instanceType: expected one of default, plus, ultra" in said


def test_a_quick_creation_is_told_of_its_nodes_what_the_app_says_of_them(shell: Shell) -> None:
    order = ("--quick", APP, "quickCreateCode=002")
    given = shell.ordered(*order, "--node", f"3.image=@{shell.file('quick.png')}", "--node", "5.size=2k")
    assert isinstance(given["nodeInfoList"], list)
    image, size = given["nodeInfoList"]
    assert image.pop("fieldValue").startswith("openapi/")
    more = {"nodeName": "the face", "fieldType": "IMAGE", "description": "the face"}
    assert image == {"nodeId": "3", "fieldName": "image", **more}
    assert (size["fieldValue"], size["fieldType"]) == ("2k", "LIST")
    own = {"nodeId": "5", "fieldName": "size", "fieldValue": "1k", "description": "mine"}
    completed = shell.ordered(*order, "--input", json.dumps({"nodeInfoList": [own]}))["nodeInfoList"]
    assert completed == [{**own, "nodeName": "size", "fieldType": "LIST"}]
    said = shell.refused(*order, "--node", "9.image=x")
    assert "input.nodeInfoList[0].nodeName: is missing; GET /api/apps/ID (receiver app ID --json) tells it" in said
    assert "there is no AI app" in shell("submit", "--quick", "1", *order[2:], "--node", "3.image=x", code=3).stderr


def test_a_wrong_kind_of_file_passes_by_force(shell: Shell) -> None:
    song = shell.file("forced.mp3")
    (link,) = shell.links(MODEL, *REST, f"imageUrls=@{song}", "--force")
    assert link.startswith("https://files.test/")


def test_a_dry_run_shows_the_input_and_its_price_and_orders_nothing(shell: Shell) -> None:
    words = ("submit", MODEL, *REST, f"imageUrls=@{shell.file('dry.png')}", "--dry-run", "--label", "run=dry")
    shown = shell(*words).stdout
    assert MODEL in shown
    assert "¥0.35" in shown
    assert '"resolution": "1080p"' in shown
    preview = json.loads(shell(*words, "--json").stdout)
    assert preview["input"]["imageUrls"][0].startswith("https://files.test/")
    assert preview["price"]["amount"] == "0.35"
    assert shell("tasks", "--label", "run=dry").stdout == ""
    assert "input.resolution" in shell("submit", MODEL, "resolution=9", "--dry-run", code=2).stderr
    assert "--wait" in shell(*words, "--wait", code=2).stderr
    assert "models alone" in shell("submit", "--app", APP, "--dry-run").stderr


# ---------------------------------------------------------------- app, workflow


def test_an_app_is_shown_with_a_command_line_that_orders_it(shell: Shell) -> None:
    lines = shell("app", APP).stdout.splitlines()
    assert lines[0].split() == ["name", "Faces"]
    assert "3.image  IMAGE  the face" in "\n".join(lines)
    assert "1k, 2k" in "\n".join(lines)
    assert lines[-1] == f"receiver submit --app {APP} --node 3.image=@one.jpg --node 5.size=1k"
    assert json.loads(shell("app", APP, "--json").stdout)["name"] == "Faces"
    assert "there is no AI app" in shell("app", WORKFLOW, code=3).stderr


def test_a_workflow_is_shown_with_the_fields_that_are_set_most(shell: Shell) -> None:
    shown = shell("workflow", WORKFLOW).stdout
    assert "3.seed" in shown
    order = f"receiver submit --workflow {WORKFLOW} --node '6.text=a lighthouse' --node 9.image=@one.jpg"
    assert shown.splitlines()[-1] == order
    assert "there is no workflow" in shell("workflow", "1", code=3).stderr
