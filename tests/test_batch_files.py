"""Files in batches: what a line may name, keys by content, one upload however many lines, and nothing sent twice."""

import hashlib
import json
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import chdir
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from msgspec.structs import replace
from offering import beginning
from servers import environment, launched, until
from test_batch import Moments, patient, refusal
from test_cli import Operator, run
from test_client import RunningServer

from receiver.cli.batch.contents import AttachedFile, contents
from receiver.cli.batch.lines import BadLine, BatchLine, read_drafts, with_keys
from receiver.cli.batch.progress import sentence
from receiver.cli.batch.rows import Common
from receiver.cli.batch.run import Batch
from receiver.cli.batch.tally import LineReport, Tally, Why, grouped
from receiver.cli.batch.uploads import Uploads, wanting
from receiver.cli.files import read_files, upload_files
from receiver.cli.outcome import Ended
from receiver.client import ApiError, Client, Unreachable
from receiver.client.patience import Interrupted, Patience
from receiver.model.records import JsonObject
from receiver.model.rules import UPLOAD_LIMIT
from receiver.model.views import CallbackView, OrderedView, UploadView

pytestmark = pytest.mark.story

VIDEO = "rhart-video-v3.1-pro-official/reference-to-video"
WORKFLOW = "1904136902449209346"
UNKNOWN = "upload:" + "ab" * 16
JPEG = beginning("one.jpg")
ANYWHERE = (Path("/"),)
REST = {"prompt": "a lighthouse", "resolution": "1080p", "generateAudio": False}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with pictures of different contents, of which two are the same."""
    for name, content in {"one.jpg": b"1", "two.jpg": b"2" * 3_000_000, "same.jpeg": b"1"}.items():
        (tmp_path / name).write_bytes(JPEG + content)
    return tmp_path


def id_of(path: Path) -> str:
    return f"upload:{hashlib.sha256(path.read_bytes()).hexdigest()[:32]}"


def video(*images: object, **more: object) -> str:
    return json.dumps(
        {**REST, "imageUrls": [f"@{each}" if isinstance(each, Path) else each for each in images], **more}
    )


def braced(text: str) -> str:
    """A text whose braces are braces in a file of lines."""
    return text.replace("{", "{{").replace("}", "}}")


def of_workflow(input: Mapping[str, object]) -> str:
    return json.dumps({"kind": "workflow", "target": WORKFLOW, "input": input})


def read(*texts: str, csv: bool = False, **common: object) -> tuple[list[BatchLine], list[BadLine]]:
    given = Common(batch="b", **{"model": VIDEO, "folders": ANYWHERE, **common})  # type: ignore[arg-type]
    drafts, bad = read_drafts("\n".join(texts).encode(), given, csv=csv)
    known = contents((each.path for draft in drafts for each in draft.written.files), lambda done, total: None)
    lines, unread = with_keys(drafts, given, known)
    return lines, bad + unread


def good(*texts: str, csv: bool = False, **common: object) -> list[BatchLine]:
    lines, bad = read(*texts, csv=csv, **common)
    assert bad == []
    return lines


def problems(*texts: str, csv: bool = False, **common: object) -> dict[int, str]:
    _, bad = read(*texts, csv=csv, **common)
    return {line.number: "; ".join(f"{path}: {message}" for path, message in line.problems) for line in bad}


# ---------------------------------------------------------------- what a line may name


def test_a_file_stands_in_the_order_by_its_content(home: Path) -> None:
    (line,) = good(video(home / "one.jpg", "https://x.test/a.jpg", home / "two.jpg"))
    ids = [id_of(home / "one.jpg"), id_of(home / "two.jpg")]
    assert line.order.input["imageUrls"] == [ids[0], "https://x.test/a.jpg", ids[1]]
    assert [(file.place, file.path.name, file.id, file.size) for file in line.files] == [
        ("input.imageUrls[0]", "one.jpg", ids[0], 5),
        ("input.imageUrls[2]", "two.jpg", ids[1], 3_000_004),
    ]


def test_templates_cells_and_common_values_may_name_files(home: Path) -> None:
    (line,) = good(json.dumps({**REST, "_name": "one"}), pairs=(f"imageUrls=@{home}/{{_name}}.jpg",))
    assert [file.path for file in line.files] == [home / "one.jpg"]
    head = "prompt,resolution,generateAudio,imageUrls"
    (row,) = good(head, f'a lighthouse,1080p,no,"@{home}/one.jpg,@{home}/two.jpg"', csv=True)
    assert [file.path.name for file in row.files] == ["one.jpg", "two.jpg"]


def test_a_relative_path_begins_at_the_working_directory(home: Path) -> None:
    with chdir(home):
        (line,) = good(video("@one.jpg"))
        told = problems(video("@no.jpg"))[1]
    assert line.files[0].id == id_of(home / "one.jpg")
    assert f"input.imageUrls[0]: no.jpg: there is no such file (looked for in {home})" in told


def test_a_text_is_a_text_where_no_file_is_expected_and_a_doubled_sign_is_a_sign(home: Path) -> None:
    (line,) = good(video(home / "one.jpg", prompt="@somebody"))
    assert line.order.input["prompt"] == "@somebody"
    nodes = [{"nodeId": "6", "fieldName": "text", "fieldValue": text} for text in ("@@x", "@", f"@{home}/one.jpg")]
    (line,) = good(of_workflow({"nodeInfoList": nodes}), model=None)
    assert [node["fieldValue"] for node in line.order.input["nodeInfoList"]] == [  # type: ignore[index,union-attr,call-overload]
        "@x",
        "@",
        id_of(home / "one.jpg"),
    ]
    (line,) = good(json.dumps({"image": f"@{home}/one.jpg", "text": "@@x"}), model="newer/model", checked=False)
    assert line.order.input == {"image": id_of(home / "one.jpg"), "text": "@x"}


@pytest.fixture
def below(home: Path) -> Path:
    """A folder of somebody else's below home, with links out of it, a hidden file and a folder."""
    folder = home / "theirs"
    (folder / "photos").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    for place in ("one.jpg", "photos/two.jpg", ".three.jpg", ".hidden/four.jpg"):
        (folder / place).write_bytes(JPEG + place.encode())
    (folder / "link.jpg").symlink_to(home / "one.jpg")
    (folder / "up").symlink_to(home)
    (folder / "inside.jpg").symlink_to(folder / "photos" / "two.jpg")
    return folder


@pytest.mark.parametrize("inside", ["one.jpg", "photos/two.jpg", "photos/../one.jpg", "inside.jpg"])
def test_a_file_of_lines_names_files_below_its_own_folder(below: Path, inside: str) -> None:
    (line,) = good(video(f"@{below}/{inside}"), folders=(below,))
    assert [file.path.name for file in line.files] == [inside.rpartition("/")[2]]


@pytest.mark.parametrize(
    "outside",
    ["../one.jpg", "link.jpg", "up/one.jpg", "../../etc/hostname", ".three.jpg", ".hidden/four.jpg", "../none.jpg"],
)
def test_a_file_of_lines_names_nothing_else_wherever_a_file_may_stand(below: Path, outside: str) -> None:
    named = f"@{below}/{outside}"
    nodes = {"nodeInfoList": [{"nodeId": "3", "fieldName": "image", "fieldValue": named}]}
    head = "prompt,resolution,generateAudio,imageUrls"
    told = {
        **problems(video(named), folders=(below,)),
        2: problems(of_workflow(nodes), model=None, folders=(below,))[1],
        3: problems(of_workflow({"workflow": {"9": {"inputs": {"x": named}}}}), model=None, folders=(below,))[1],
        4: problems(head, f"a lighthouse,1080p,no,{named}", csv=True, folders=(below,))[2],
        5: problems(json.dumps({**REST, "_at": named}), pairs=("imageUrls={_at}",), folders=(below,))[1],
    }
    where = "is hidden below" if "/." in named.replace("/..", "") else "is not below"
    assert [f"{named[1:]} {where} {below}: " in each and "--files-from DIR" in each for each in told.values()] == (
        [True] * 5
    )


def test_a_further_folder_is_one_that_a_person_names(operator: Operator, home: Path, below: Path) -> None:
    file = below / "orders.jsonl"
    file.write_text(video(home / "one.jpg") + "\n" + video(below / "one.jpg"))
    words = ("batch", str(file), "--model", VIDEO, "--dry-run")
    told = operator(*words, code=2).stderr
    assert f"  line 1: input.imageUrls[0]: {home}/one.jpg is not below {below}" in told
    assert "line 2" not in told
    assert "2 lines are right" in operator(*words, "--files-from", str(home)).stderr
    (home / "elsewhere").mkdir()
    linked = home / "elsewhere" / "linked.jsonl"
    linked.symlink_to(file)  # its own folder is where it really is
    assert (
        f"line 1: input.imageUrls[0]: {home}/one.jpg is not below {below}"
        in operator(*("batch", str(linked), *words[2:]), code=2).stderr
    )


def test_literal_texts_name_no_files_and_lose_no_sign(home: Path) -> None:
    texts = ["@secret.txt", "@@x", "@", f"@{home}/one.jpg", "{braces}"]
    nodes = [{"nodeId": "6", "fieldName": "text", "fieldValue": text} for text in texts]
    (line,) = good(of_workflow({"nodeInfoList": nodes}), model=None, literal=True, folders=())
    assert (line.order.input, line.files) == ({"nodeInfoList": nodes}, ())
    graph = {"6": {"inputs": {"text": "@secret.txt", "more": ["@@x"]}}}
    (line,) = good(of_workflow({"workflow": json.dumps(graph)}), model=None, literal=True, folders=())
    assert graph_of(line.order.input["workflow"]) == graph
    assert "input.imageUrls[0]" in problems(video(home / "one.jpg"), literal=True)[1]
    (line,) = good(json.dumps(REST), pairs=(f"imageUrls=@{home}/one.jpg",), literal=True)
    assert [file.path for file in line.files] == [home / "one.jpg"]


def test_an_order_in_a_file_names_files_below_its_folder_and_a_person_at_the_shell_any(
    operator: Operator, home: Path, below: Path
) -> None:
    body = below / "order.json"

    def order(named: str, *words: str, code: int = 0, stdin: str | None = None) -> str:
        written = json.dumps({**REST, "imageUrls": [named]})
        body.write_text(written)
        source = "-" if stdin else str(body)
        return operator(
            *("submit", VIDEO, "--body", source, "--dry-run", *words), code=code, stdin=written if stdin else None
        ).stderr

    near, far = f"@{below}/one.jpg", f"@{home}/one.jpg"
    order(near)
    assert f"input.imageUrls[0]: {home}/one.jpg is not below {below}: " in order(far, code=2)
    assert "is not below" in order(far, code=2, stdin="-")
    order(far, "--files-from", str(home))
    order("@/etc/hostname", f"imageUrls[]={far}")  # the pair replaces what the file says


def test_an_upload_that_was_made_before_passes_wherever_a_file_may_stand() -> None:
    nodes = [{"nodeId": "3", "fieldName": "image", "fieldValue": UNKNOWN}]
    graph = json.dumps({"9": {"inputs": {"image": UNKNOWN}}})
    (line,) = good(video(UNKNOWN))
    assert (line.order.input["imageUrls"], line.files) == ([UNKNOWN], ())
    for input in ({"nodeInfoList": nodes}, {"workflow": graph}):
        (line,) = good(of_workflow(input), model=None, literal=True)
        assert line.order.input == input
    assert "input.imageUrls[0]" in problems(video("upload:abc"))[1]


def test_every_problem_of_every_line_is_told_with_its_path_and_what_helps(home: Path) -> None:
    (home / "empty.jpg").touch()
    (home / "song.mp3").write_bytes(b"ID3")
    with (home / "huge.jpg").open("wb") as file:
        file.truncate(UPLOAD_LIMIT + 1)
    with (home / "large.jpg").open("wb") as file:
        file.write(JPEG)
        file.truncate(10 * 2**20 + 1)
    told = problems(
        video(home / "one.jpg"),
        video(home / "no.jpg", home / "empty.jpg", resolution="9"),
        video(home / "huge.jpg", home, home / "song.mp3"),
        video(home / "large.jpg"),
        video(f"@{home}/{'x' * 300}.jpg", "@\0"),
        of_workflow({"nodeInfoList": [{"nodeId": "3", "fieldName": "image", "fieldValue": f"@{home}/no.jpg"}]}),
    )
    assert set(told) == {2, 3, 4, 5, 6}
    assert f"input.imageUrls[0]: {home}/no.jpg: there is no such file; for the text itself write @@" in told[2]
    assert "input.imageUrls[1]" in told[2]
    assert "empty.jpg: is empty" in told[2]
    assert "input.resolution" in told[2]
    assert "huge.jpg: is larger than 100 MiB" in told[3]
    assert "is no file" in told[3]
    assert f"expected an image (JPG, PNG), got song.mp3 ({home}/song.mp3)" in told[3]
    assert "expected at most 10 MB, got 10.0 MB" in told[4]
    assert "input.imageUrls[0]" in told[5]
    assert "input.imageUrls[1]" in told[5]
    assert "input.nodeInfoList[0].fieldValue" in told[6]
    assert problems(video(home / "song.mp3"), checked=False) == {}


def test_a_file_that_is_gone_when_it_is_hashed_is_its_lines_problem(home: Path) -> None:
    common = Common(batch="b", model=VIDEO, folders=ANYWHERE)
    drafts, _ = read_drafts(f"{video(home / 'one.jpg')}\n{video(home / 'two.jpg')}".encode(), common, csv=False)
    (home / "one.jpg").unlink()
    known = contents((each.path for draft in drafts for each in draft.written.files), lambda done, total: None)
    lines, bad = with_keys(drafts, common, known)
    assert [line.number for line in lines] == [2]
    assert [(line.number, line.problems[0][0]) for line in bad] == [(1, "input.imageUrls[0]")]
    (home / "two.jpg").write_bytes(b"")
    assert contents([home / "two.jpg"], lambda done, total: None)[home / "two.jpg"].problem == "is empty"


# ---------------------------------------------------------------- whole workflows


def graph_of(text: object) -> dict[str, dict[str, dict[str, object]]]:
    assert isinstance(text, str)
    found: dict[str, dict[str, dict[str, object]]] = json.loads(text)
    return found


def test_a_whole_workflow_may_name_files_in_the_inputs_of_its_nodes(home: Path) -> None:
    graph: dict[str, dict[str, Any]] = {
        "3": {"inputs": {"seed": 2**64 - 1, "cfg": 7.0, "model": ["4", 0]}, "class_type": "@KSampler"},
        "6": {"inputs": {"text": "@@somebody", "sign": "@"}},
        "9": {"inputs": {"image": f"@{home}/one.jpg", "more": [{"mask": f"@{home}/two.jpg"}]}},
    }
    (as_text,) = good(of_workflow({"workflow": braced(json.dumps(graph))}), model=None)
    (as_object,) = good(of_workflow({"workflow": graph}), model=None)
    assert graph_of(as_text.order.input["workflow"]) == {
        "3": graph["3"],
        "6": {"inputs": {"text": "@somebody", "sign": "@"}},
        "9": {"inputs": {"image": id_of(home / "one.jpg"), "more": [{"mask": id_of(home / "two.jpg")}]}},
    }
    assert as_object.key == as_text.key
    assert [file.place for file in as_text.files] == [
        "input.workflow.9.inputs.image",
        "input.workflow.9.inputs.more[0].mask",
    ]
    graph["9"]["inputs"]["image"] = "@no/such.jpg"
    told = problems(of_workflow({"workflow": graph}), model=None)[1]
    assert told.startswith("input.workflow.9.inputs.image: no/such.jpg: there is no such file")


@pytest.mark.parametrize(
    "text", ['{"3" : {"inputs": {"seed": 1.50, "text": "x@y"}}}', "no JSON", "[]", '{"3": 7, "4": {"inputs": []}}', "["]
)
def test_a_workflow_that_names_no_files_is_left_as_it_is(text: str) -> None:
    (line,) = good(of_workflow({"workflow": text}), model=None, literal=True, checked=False)
    assert line.order.input == {"workflow": text}


def test_a_workflow_that_is_given_as_an_object_becomes_the_text_that_the_provider_takes() -> None:
    graph = {"3": {"inputs": {"seed": 1, "text": "x@y"}}}
    (line,) = good(of_workflow({"workflow": graph}), model=None)
    assert graph_of(line.order.input["workflow"]) == graph


def test_an_order_from_the_command_line_finds_and_fills_the_same_places(home: Path) -> None:
    input: JsonObject = {"workflow": {"9": {"inputs": {"image": f"@{home}/one.jpg", "text": "@@x"}}}}
    rest: JsonObject = {"kind": "workflow", "target": WORKFLOW}
    desk = Desk()
    with desk.client() as client:
        given = upload_files(client, read_files(input, rest))
    assert graph_of(given["workflow"])["9"]["inputs"] == {"image": id_of(home / "one.jpg"), "text": "@x"}
    assert desk.uploads == ["one.jpg"]
    with pytest.raises(Ended) as ended:
        read_files({"workflow": '{"9": {"inputs": {"image": "@no.jpg"}}}'}, rest)
    assert "input.workflow.9.inputs.image: no.jpg: there is no such file" in ended.value.lines[0]


# ---------------------------------------------------------------- keys


def test_the_content_of_a_file_decides_the_key_and_its_name_and_time_do_not(home: Path) -> None:
    first = good(video(home / "one.jpg"), video(home / "two.jpg"))
    renamed = (home / "two.jpg").rename(home / "other.jpg")
    os.utime(home / "one.jpg", (1, 1))
    second = good(video(home / "same.jpeg"), video(renamed))
    assert [line.key for line in second] == [line.key for line in first]
    renamed.write_bytes(JPEG + b"3")
    third = good(video(home / "one.jpg"), video(renamed))
    assert third[0].key == first[0].key
    assert third[1].key != first[1].key


def test_equal_lines_are_numbered_by_what_their_files_hold(home: Path) -> None:
    keys = [
        line.key for line in good(video(home / "one.jpg"), video(home / "same.jpeg"), video(id_of(home / "one.jpg")))
    ]
    assert [key.rpartition("-")[2] for key in keys] == ["1", "2", "3"]
    assert len({key.rpartition("-")[0] for key in keys}) == 1


def test_each_file_is_read_once_and_how_far_is_told(home: Path) -> None:
    (home / "link.jpg").symlink_to(home / "two.jpg")
    told: list[tuple[int, int | None]] = []
    paths = [home / "two.jpg", home / "one.jpg", home / "link.jpg", home / "two.jpg"]
    found = contents(paths, lambda done, total: told.append((done, total)))
    assert [found[path].id for path in paths] == [id_of(path) for path in paths]
    assert told == [(1, 2), (2, 2)]


# ---------------------------------------------------------------- uploads and orders, against answers


class Desk:
    """A server that knows uploads and orders by their names alone, and may be told to answer otherwise."""

    def __init__(self) -> None:
        self.there: set[str] = set()
        self.uploads: list[str] = []
        self.orders: dict[str, OrderedView] = {}
        self.refused = 0
        self.on_upload: list[Callable[[], httpx.Response]] = []
        self.on_order: list[Callable[[], None]] = []
        self._lock = threading.Lock()

    def client(self) -> Client:
        return Client("http://receiver.test", None, transport=httpx.MockTransport(self._answer))

    def _answer(self, request: httpx.Request) -> httpx.Response:
        content = request.read()
        with self._lock:
            if request.url.path == "/api/uploads":
                return self._upload(request, content)
            return self._order(request, content)

    def _upload(self, request: httpx.Request, content: bytes) -> httpx.Response:
        if self.on_upload:
            return self.on_upload.pop(0)()
        name, sha256 = request.url.params["name"], hashlib.sha256(content).hexdigest()
        self.uploads.append(name)
        self.there.add(f"upload:{sha256[:32]}")
        made = UploadView(
            id=f"upload:{sha256[:32]}",
            name=name,
            type="image",
            size=len(content),
            sha256=sha256,
            download_url="https://files.test/x",
            file_name="openapi/x",
            expires_at="",
        )
        return _json(made)

    def _order(self, request: httpx.Request, content: bytes) -> httpx.Response:
        if self.on_order:
            self.on_order.pop(0)()
        order, key = json.loads(content), request.headers["idempotency-key"]
        if key in self.orders:
            return _json(self.orders[key])
        missing = [each for each in order["input"]["imageUrls"] if each[:7] == "upload:" and each not in self.there]
        if missing:
            self.refused += 1
            details = [{"path": "input.imageUrls[0]", "message": f"there is no upload {each}"} for each in missing]
            return refusal(422, "invalid", details)
        self.orders[key] = _task(f"task-{len(self.orders)}", order, key)
        return _json(self.orders[key])


def _json(content: object) -> httpx.Response:
    return httpx.Response(200, content=msgspec.json.encode(content))


def _task(name: str, order: Mapping[str, dict[str, str]], key: str) -> OrderedView:
    nowhere = CallbackView(sent=False, delivered_at=None, miss=None, cause=None, missed_at=None, resent_at=None)
    return OrderedView(
        id=name,
        kind="model",
        api="v2",
        target=VIDEO,
        input=order["input"],
        labels=order["labels"],
        state="queued",
        provider_task_id=None,
        provider_status=None,
        created_at="",
        submitted_at=None,
        ended_at=None,
        next_check_at=None,
        error=None,
        callback=nowhere,
        idempotency_key=key,
        again_of=None,
        note=None,
    )


def perform(desk: Desk, lines: list[BatchLine], *, threads: int = 1, bound: float = 60.0, retry: bool = False) -> Tally:
    tally, stop = Tally("b", lines), Moments()
    with desk.client() as client:
        work = Batch(client, tally, patient(stop, bound), retry=retry)
        work.run(lines, threads, lambda: None, doubt_patience=None)
        assert work.uploads.under_way() is None
    return tally


def ends(tally: Tally) -> dict[int, str]:
    """What became of every line, with the reason if there is one."""
    report = tally.report()
    assert len({each.line for each in report.tasks}) == len(report.tasks) == report.lines
    return {each.line: "; ".join([each.state, *(why.message for why in each.errors)]) for each in report.tasks}


def numbered(path: Path, count: int) -> list[BatchLine]:
    return good(*(video(path, prompt=f"a lighthouse, {number}") for number in range(count)))


def test_fifty_lines_on_eight_threads_upload_their_file_once(home: Path) -> None:
    desk = Desk()
    report = perform(desk, numbered(home / "two.jpg", 50), threads=8).report()
    assert desk.uploads == ["two.jpg"]
    assert report.counts == {"queued": 50}
    assert len({each.task for each in report.tasks}) == len(desk.orders) == 50


def test_what_the_server_has_is_not_uploaded_again(home: Path) -> None:
    desk = Desk()
    desk.there.add(id_of(home / "one.jpg"))
    assert perform(desk, numbered(home / "one.jpg", 3)).report().counts == {"queued": 3}
    assert (desk.uploads, desk.refused) == ([], 0)


def test_an_upload_that_grew_too_old_is_made_anew_and_its_line_is_ordered(home: Path) -> None:
    desk = Desk()
    desk.on_order = [lambda: None, lambda: None, desk.there.clear]  # before the second line
    assert perform(desk, numbered(home / "one.jpg", 3)).report().counts == {"queued": 3}
    assert desk.uploads == ["one.jpg", "one.jpg"]


def test_an_upload_that_is_denied_whatever_is_done_ends_its_line_after_one_more_try(home: Path) -> None:
    desk = Desk()
    desk.on_order = [desk.there.clear] * 9
    told = ends(perform(desk, numbered(home / "one.jpg", 1)))
    assert (desk.uploads, desk.refused) == (["one.jpg"], 2)
    assert told == {1: f"refused; there is no upload {id_of(home / 'one.jpg')}"}


def test_an_upload_that_the_line_names_itself_is_its_own_problem(home: Path) -> None:
    desk = Desk()
    told = ends(perform(desk, good(video(UNKNOWN, home / "one.jpg"), video(home / "two.jpg"))))
    assert desk.uploads == ["two.jpg"], "a file of an order that will be refused need not be sent"
    assert told == {1: f"refused; there is no upload {UNKNOWN}", 2: "queued"}


def test_an_order_of_an_earlier_run_is_known_although_its_upload_died_since(home: Path) -> None:
    desk, lines = Desk(), numbered(home / "one.jpg", 3)
    perform(desk, lines[:2])
    desk.there.clear()
    assert [each.task for each in perform(desk, lines[:2]).report().tasks] == ["task-0", "task-1"]
    assert desk.uploads == ["one.jpg"]
    assert [each.task for each in perform(desk, lines).report().tasks] == ["task-0", "task-1", "task-2"]
    assert desk.uploads == ["one.jpg", "one.jpg"], "the new line alone needs it"


PROVIDER_IS_BUSY = {"code": "1011", "name": "SYSTEM_BUSY", "retryable": True}
PROVIDER_REFUSES = {"code": "1008", "name": "FILE_TOO_LARGE", "retryable": False}


def test_a_file_that_the_provider_refuses_ends_its_lines_and_is_asked_for_once(home: Path) -> None:
    desk = Desk()
    desk.on_upload = [lambda: refusal(502, "provider_error", PROVIDER_REFUSES)]
    tally = perform(
        desk, [*good(video(home / "one.jpg"), video(home / "same.jpeg", prompt="a harbour"), video(home / "two.jpg"))]
    )
    reason = f"refused; {home}/one.jpg cannot be uploaded: m"
    assert ends(tally) == {1: reason, 2: reason, 3: "queued"}
    assert desk.uploads == ["two.jpg"]
    assert [why.path for why in tally.report().tasks[0].errors] == ["input.imageUrls[0]"]


def test_a_provider_that_is_busy_is_waited_for(home: Path) -> None:
    desk = Desk()
    desk.on_upload = [lambda: refusal(502, "provider_error", PROVIDER_IS_BUSY), lambda: refusal(503, "disk_low")]
    assert ends(perform(desk, numbered(home / "one.jpg", 2))) == {1: "queued", 2: "queued"}
    assert desk.uploads == ["one.jpg"]


class Later(Desk):
    """A day later, where the first order failed and the links of its files are dead."""

    def _order(self, request: httpx.Request, content: bytes) -> httpx.Response:
        if request.method == "GET":
            return _json({"items": [], "next": None})
        if not request.url.path.endswith("/submit-again"):
            return super()._order(request, content)
        (first,), key = list(self.orders.values())[:1], request.headers["idempotency-key"]
        if not self.there:
            message = f"the upload of one.jpg ({first.input['imageUrls'][0]}) is too old; then submit the task again"  # type: ignore[index]
            return refusal(422, "invalid", [{"path": "input.imageUrls[0]", "message": message}])
        return _json(
            self.orders.setdefault(key, replace(first, id="again", state="queued", again_of=first.id, new=True))
        )


def test_a_line_that_is_ordered_again_brings_its_file_again_when_that_is_too_old(home: Path) -> None:
    desk, lines = Later(), numbered(home / "one.jpg", 1)
    perform(desk, lines)
    (first,) = desk.orders.values()
    desk.orders = {first.idempotency_key or "": replace(first, state="failed", new=False)}
    desk.there.clear()
    assert ends(perform(desk, lines)) == {1: "failed"}
    tally = perform(desk, lines, retry=True)
    assert (ends(tally), desk.uploads) == ({1: "queued"}, ["one.jpg", "one.jpg"])
    report = tally.report()
    assert (report.tasks[0].task, report.new, [*desk.orders]) == (
        *("again", 1),
        [first.idempotency_key, f"{first.idempotency_key}-again-{first.id}"],
    )


def test_a_server_that_goes_away_in_an_upload_is_waited_for_and_the_file_sent_from_its_start(home: Path) -> None:
    desk, lines = Desk(), numbered(home / "two.jpg", 3)

    def silent() -> httpx.Response:
        raise httpx.ReadError("gone")

    desk.on_upload = [silent, silent, lambda: refusal(503, "stopping")]
    assert ends(perform(desk, lines)) == {1: "queued", 2: "queued", 3: "queued"}
    assert (desk.uploads, desk.on_upload) == (["two.jpg"], []), "the three that failed, and one that was kept whole"
    assert desk.there == {id_of(home / "two.jpg")}


def test_a_provider_that_stays_away_ends_the_lines_that_need_it_and_is_waited_for_once(home: Path) -> None:
    desk, tries = Desk(), Counter[str]()

    def away() -> httpx.Response:
        tries["all"] += 1
        return refusal(502, "provider_error", PROVIDER_IS_BUSY)

    desk.on_upload = [away] * 100
    lines = good(video(home / "one.jpg"), video("https://x.test/a.jpg"), video(home / "two.jpg"))
    told = ends(perform(desk, lines, bound=10))
    assert told == {
        1: f"refused; {home}/one.jpg cannot be uploaded: m",
        2: "queued",
        3: f"refused; {home}/two.jpg cannot be uploaded: m",
    }
    assert tries["all"] == 7, "six for the first file, until patience ends, and one for the second"


def test_a_provider_that_came_back_is_waited_for_again(home: Path) -> None:
    desk = Desk()
    busy = refusal(502, "provider_error", PROVIDER_IS_BUSY)
    desk.on_upload = [lambda: busy] * 6
    desk.on_order = [lambda: None] * 3 + [lambda: desk.on_upload.append(lambda: busy)]  # before the third line
    (home / "three.jpg").write_bytes(JPEG + b"3")
    lines = good(*(video(home / f"{name}.jpg") for name in ("one", "two", "three")))
    told = ends(perform(desk, lines, bound=10))
    assert [told[number].partition(";")[0] for number in (1, 2, 3)] == ["refused", "queued", "queued"]
    assert (desk.uploads, desk.on_upload, desk.on_order) == (["two.jpg", "three.jpg"], [], [])


def test_a_server_that_will_not_speak_ends_the_batch_and_one_that_is_away_as_well(home: Path) -> None:
    desk, lines = Desk(), numbered(home / "one.jpg", 2)
    desk.on_upload = [lambda: refusal(409, "no_api_key")]
    with pytest.raises(ApiError, match="m"):
        perform(desk, lines)

    def silent() -> httpx.Response:
        raise httpx.ConnectError("refused")

    desk.on_upload = [silent] * 100
    with pytest.raises(Unreachable):
        perform(desk, lines, bound=3)
    assert (desk.uploads, desk.orders) == ([], {})


def test_a_file_that_changed_after_it_was_read_is_not_ordered(home: Path) -> None:
    desk, lines = Desk(), numbered(home / "one.jpg", 2)
    (home / "one.jpg").write_bytes(JPEG + b"edited")
    told = ends(perform(desk, lines))
    assert (
        told[1] == f"refused; {home}/one.jpg cannot be uploaded: it has changed meanwhile; give the same command again"
    )
    assert desk.orders == {}
    lines = numbered(home / "two.jpg", 1)
    (home / "two.jpg").unlink()
    assert "two.jpg cannot be uploaded: No such file or directory" in ends(perform(desk, lines))[1]


class Interrupting(httpx.BaseTransport):
    """Takes the first piece of an upload, and has somebody want everything to end."""

    def __init__(self, interrupt: Callable[[], None]) -> None:
        self.pieces = 0
        self._interrupt = interrupt

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        assert isinstance(request.stream, httpx.SyncByteStream)
        for _ in request.stream:
            self.pieces += 1
            self._interrupt()
        raise AssertionError("the upload went on")


def test_an_interruption_ends_an_upload_in_its_middle(home: Path) -> None:
    stop, seen = threading.Event(), []
    path = home / "two.jpg"
    file = AttachedFile(place="p", path=path, id=id_of(path), size=path.stat().st_size)

    def interrupt() -> None:
        seen.append(uploads.under_way())
        stop.set()

    transport = Interrupting(interrupt)
    with Client("http://receiver.test", None, transport=transport) as client:
        uploads = Uploads(client, Patience(60, stop))
        with pytest.raises(Interrupted):
            uploads.send([file], uploads.sent.copy())
        assert uploads.under_way() is None
    assert (seen, transport.pieces) == (["uploading 1 file, 0.0 of 2.9 MiB"], 1)


def test_what_is_being_uploaded_is_told_beside_the_counts() -> None:
    told = sentence({"unsent": 3}, None, "uploading 2 files, 1.0 of 8.0 MiB")
    assert told.endswith("in doubt 0; uploading 2 files, 1.0 of 8.0 MiB")


def test_only_what_a_refusal_names_is_wanting(home: Path) -> None:
    (line,) = good(video(home / "one.jpg", home / "same.jpeg", home / "two.jpg"))
    first, _, last = line.files
    gone = Why(code="invalid", message=f"there is no upload {last.id}, or it is too old")
    other = Why(code="invalid", message="too long")
    assert wanting(line.files, [gone]) == ([last], [])
    assert wanting(line.files, [other, gone]) == ([last], [other])
    assert wanting([first], [gone]) == ([], [gone])


def test_files_that_could_not_be_uploaded_are_reasons_of_their_own() -> None:
    def line(number: int, message: str) -> LineReport:
        why = Why(code="not_uploaded", path="input.imageUrls[0]", message=message)
        return LineReport(line=number, key="k", task=None, state="refused", errors=[why], files=[])

    found = grouped([line(1, "a.jpg"), line(2, "b.jpg"), line(3, "a.jpg")])
    assert [each.lines for each in found] == [[1, 3], [2]]


# ---------------------------------------------------------------- against a running server and the simulated provider


def orders(home: Path, count: int, *names: str) -> str:
    """A file of so many orders, which name pictures of this test in turn."""
    for name in names:
        (home / name).write_bytes(beginning(name) + f"{home}/{name}".encode())
    file = home / "orders.jsonl"
    texts = [video(home / names[number % len(names)], prompt=f"a lighthouse, {number}") for number in range(count)]
    file.write_text("\n".join(texts))
    return str(file)


def test_a_batch_uploads_each_file_once_and_again_neither_uploads_nor_orders(operator: Operator, home: Path) -> None:
    simulator = operator.server.simulator
    before = simulator.count("upload"), simulator.count("submit")
    file = orders(home, 10, "a.jpg", "b.png")
    words = ("batch", file, "--model", VIDEO, "--json")
    first = json.loads(operator(*words).stdout)
    assert (first["counts"], simulator.count("upload"), simulator.count("submit")) == (
        {"succeeded": 10},
        before[0] + 2,
        before[1] + 10,
    )
    moved = Path(file).rename(home / "moved.jsonl")
    for again in (("batch", str(moved), *words[2:]), words):
        Path(file).write_bytes(moved.read_bytes())
        assert [each["task"] for each in json.loads(operator(*again).stdout)["tasks"]] == [
            each["task"] for each in first["tasks"]
        ]
    (home / "b.png").write_bytes(beginning("b.png") + b"edited")
    third = json.loads(operator(*words).stdout)
    assert len({each["task"] for each in first["tasks"]} & {each["task"] for each in third["tasks"]}) == 5
    assert (simulator.count("upload"), simulator.count("submit")) == (before[0] + 3, before[1] + 15)


def runnable(image: object) -> dict[str, object]:
    return {
        "39": {"class_type": "LoadImage", "inputs": {"image": image}},
        "9": {"class_type": "SaveImage", "inputs": {"images": ["39", 0], "filename_prefix": "x"}},
    }


@pytest.mark.parametrize("as_text", [False, True], ids=["object", "text"])
def test_whole_workflows_bring_their_file_once_and_a_moved_batch_knows_them(
    operator: Operator, home: Path, as_text: bool
) -> None:
    simulator, picture = operator.server.simulator, home / "graph.png"
    picture.write_bytes(beginning("graph.png") + f"{home}".encode())
    before = simulator.count("upload"), simulator.count("run_workflow")
    graph = runnable(f"@{picture}")
    line = of_workflow({"workflow": braced(json.dumps(graph)) if as_text else graph})
    file, moved = home / "graphs.jsonl", home / "moved.jsonl"
    file.write_text(f"{line}\n{line}\n")
    first = json.loads(operator("batch", str(file), "--json").stdout)
    assert first["counts"] == {"succeeded": 2}
    for each in first["tasks"]:
        task = simulator.tasks[json.loads(operator("task", each["task"], "--json").stdout)["provider_task_id"]]
        assert task.order.graph is not None
        assert task.order.graph["39"]["inputs"]["image"].startswith("openapi/")
    file.rename(moved)
    again = json.loads(operator("batch", str(moved), "--json").stdout)
    assert [each["task"] for each in again["tasks"]] == [each["task"] for each in first["tasks"]]
    assert (simulator.count("upload"), simulator.count("run_workflow")) == (before[0] + 1, before[1] + 2)


def test_nothing_is_uploaded_when_a_line_is_wrong(operator: Operator, home: Path) -> None:
    before = operator.server.simulator.count("upload")
    (home / "orders.jsonl").write_text("\n".join([video(home / "one.jpg"), video(home / "no.jpg"), video("@")]))
    told = operator("batch", str(home / "orders.jsonl"), "--model", VIDEO, code=2).stderr
    assert told.startswith("Error: nothing was ordered: 2 of 3 lines are wrong\n")
    assert f"  line 2: input.imageUrls[0]: {home}/no.jpg: there is no such file" in told
    assert "  line 3: input.imageUrls[0]" in told
    assert operator.server.simulator.count("upload") == before


def test_an_upload_that_is_named_and_not_there_is_that_lines_failure(operator: Operator, home: Path) -> None:
    stdin = f"{video(UNKNOWN)}\n{video(home / 'one.jpg')}\n"
    report = json.loads(
        operator("batch", "-", "--model", VIDEO, *("--files-from", str(home)), "--json", code=1, stdin=stdin).stdout
    )
    assert report["counts"] == {"refused": 1, "succeeded": 1}
    assert report["tasks"][0]["errors"][0]["path"] == "input.imageUrls[0]"
    assert f"there is no upload {UNKNOWN}" in report["tasks"][0]["errors"][0]["message"]


def test_a_dry_run_uploads_nothing_and_says_what_would_be(home: Path) -> None:
    stdin = "\n".join([video(home / "one.jpg"), video(home / "same.jpeg", prompt="a harbour"), video(home / "two.jpg")])
    words = ("batch", "-", "--model", VIDEO, "--files-from", str(home), "--dry-run")
    result = run(*words, stdin=stdin)
    assert result.stdout.splitlines() == [
        f"3 of {VIDEO}",
        f"would upload {home}/one.jpg (5 bytes) for lines 1, 2",
        f"would upload {home}/two.jpg (3000004 bytes) for line 3",
    ]
    assert "nothing was ordered or uploaded" in result.stderr
    document = json.loads(run(*words, "--json", stdin=stdin).stdout)
    assert document["files"][0] == {
        "id": id_of(home / "one.jpg"),
        "path": str(home / "one.jpg"),
        "size": 5,
        "lines": [1, 2],
    }
    assert document["orders"][2]["input"]["imageUrls"] == [id_of(home / "two.jpg")]


@pytest.mark.slow
async def test_a_batch_that_was_killed_and_begun_again_uploads_and_orders_nothing_twice(
    server: RunningServer, home: Path
) -> None:
    count, names = 60, [f"{number}.jpg" for number in range(12)]
    file, report = orders(home, count, *names), home / "report.json"
    before = {route: server.simulator.count(route) for route in ("upload", "submit")}

    def done(route: str) -> int:
        return server.simulator.count(route) - before[route]

    given = environment(RECEIVER_URL=server.url, RECEIVER_ADMIN_TOKEN=server.token)
    batch = (sys.executable, "-m", "receiver", "batch", file, "--model", VIDEO)
    words = (*batch, "--concurrency", "1", "--report", str(report))
    async with launched(home, argv=words, given=given) as client:
        await until(lambda: done("upload") >= len(names) // 2)
        await client.kill()
    assert done("upload") < len(names), "the client was killed too late to prove anything"
    async with launched(home, argv=words, given=given) as client:
        await until(lambda: client.process.returncode is not None, 60)
        assert await client.ended() == 0, client.err
    found = json.loads(report.read_text())
    assert [each["line"] for each in found["tasks"]] == list(range(1, count + 1))
    assert len({each["task"] for each in found["tasks"]}) == count
    assert (found["counts"], done("upload"), done("submit")) == ({"succeeded": count}, len(names), count)
