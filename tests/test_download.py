"""Saving result files: real files and real sockets on the loopback; broken off, continued, judged and named."""

import asyncio
import errno
import gzip
import hashlib
import os
import signal
import sys
from base64 import b64encode
from collections.abc import AsyncIterator
from pathlib import Path
from ssl import PROTOCOL_TLS_CLIENT, SSLContext
from typing import Any, BinaryIO

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from storage import Storage

from receiver.actions import ActionFailed, Done, Work, left_behind
from receiver.actions.download.content import data_bytes, what_is_wrong
from receiver.actions.download.folder import CHUNK, kept
from receiver.actions.download.names import (
    MAX_BYTES,
    MAX_CHARACTERS,
    PLACES,
    file_names,
    file_paths,
    safe_name,
    template_problem,
)
from receiver.actions.download.partial import NO_ROOM, NOTE_EVERY, Note, Part, beside, tidy, tidy_stale
from receiver.actions.download.ranges import CHANGED, UNFIT, WHOLE, Origin, link_identity
from receiver.actions.download.save import Downloader
from receiver.actions.settings import DownloadDefinition
from receiver.egress.client import Egress
from receiver.model import rules
from receiver.model.records import JsonObject, Result, SavedFile
from receiver.server.definitions import read_definitions

TASK = "019a0000-0000-7000-8000-000000000001"
OTHER_TASK = "019a0000-0000-7000-8000-000000000002"
NOW = 1_800_000_000.0
TLS = SSLContext(PROTOCOL_TLS_CLIENT)
DEFAULT = DownloadDefinition(name="save").files
ETAG = '"v1"'
TAGGED = {"ETag": ETAG}
VIDEO = bytes(range(256)) * 4 * 1024  # 1 MiB, twice the size of what is written at once
HALF = len(VIDEO) // 2


@pytest.fixture
async def server() -> AsyncIterator[Storage]:
    async with Storage().running() as running:
        yield running


def download(
    directory: Path,
    *results: Result,
    task: str = TASK,
    attempt: int = 1,
    body: JsonObject | None = None,
    **options: Any,
) -> Work:
    given = {"timeout": 5.0, "allow_private": True, "directory": str(directory), **options}
    definition = DownloadDefinition(name="save", **{"max_attempts": 12, **given})
    document: JsonObject = body or {"type": "task.succeeded", "id": "e", "task": {"id": task, "labels": {}}}
    return Work(
        definition=definition, body=document, results=list(results), task_id=task, key=f"{task}:save:1", attempt=attempt
    )


async def done(egress: Egress, asked: Work) -> Done:
    return await Downloader(egress, lambda: NOW)(asked)


async def failure(egress: Egress, asked: Work) -> ActionFailed:
    with pytest.raises(ActionFailed) as caught:
        await done(egress, asked)
    return caught.value


def content(file: SavedFile) -> bytes:
    return Path(file.path).read_bytes()


def names_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())


def lines(told: Done | ActionFailed, name: str = "files") -> list[dict[str, Any]]:
    found = told.detail[name]
    assert isinstance(found, list)
    return [line for line in found if isinstance(line, dict)]


# ---- names


@pytest.mark.parametrize(
    ("url", "kind", "name"),
    [
        ("https://h/output/ComfyUI_00001_abcde.png?q-sign=x", "png", "ComfyUI_00001_abcde.png"),
        ("https://h/a/b/clip", "mp4", "clip.mp4"),
        ("https://h/a/b/clip", ".MP4", "clip.mp4"),
        ("https://h/a/b/clip", "video/mp4", "clip.mp4"),
        ("https://h/a/b/clip", "image/jpeg", "clip.jpg"),
        ("https://h/a/b/clip", "application/octet-stream", "clip"),
        ("https://h/a/b/clip", "image", "clip"),
        ("https://h/a/b/clip", "../../x", "clip"),
        ("https://h", "png", "0.png"),
        ("https://h/", None, "0"),
        ("https://h/..", "png", "0.png"),
        ("https://h/%2e%2e", "png", "0.png"),
        ("https://h/..%2F..%2Fetc%2Fpasswd", "png", "_.._etc_passwd.png"),
        ("https://h/..%5C..%5Cboot.ini", None, "_.._boot.ini"),
        ("https://h/.ssh", "png", "ssh.png"),
        ("https://h/%00%0a%1b[31mred.png", None, "[31mred.png"),
        ("https://h/%E2%80%AEgnp.exe", None, "gnp.exe"),
        ("https://h/CON", None, "_CON"),
        ("https://h/nul.png", None, "_nul.png"),
        ("https://h/com1.tar.gz", None, "_com1.tar.gz"),
        ("https://h/a:b*c?.png", None, "a_b_c"),
        ("https://h/a%3Fb%7C%22.png", None, "a_b__.png"),
        ("https://h/-rf", None, "rf"),
        ("https://h/~root", None, "root"),
        ("https://h/name.png%20.", None, "name.png"),
        ("https://h/%FF%FE.png", None, "\ufffd\ufffd.png"),
        ("https://h/u%CC%88.png", None, "\u00fc.png"),
        ("http://[bad/x.png", "png", "0.png"),
        ("data:image/png;base64,AAAA", None, "0.png"),
        ("data:;base64,AAAA", "mp3", "0.mp3"),
    ],
)
def test_a_strangers_url_becomes_a_harmless_name(url: str, kind: str | None, name: str) -> None:
    assert file_names([Result(url=url, type=kind)]) == {0: name}


@pytest.mark.parametrize("long", ["a" * 500, "日" * 500, "😀" * 500, "a." * 300])
def test_a_long_name_is_cut_and_keeps_its_ending(long: str) -> None:
    name = safe_name(f"{long}.mp4")
    assert name.endswith(".mp4")
    assert len(name) <= MAX_CHARACTERS
    assert len(name.encode()) <= MAX_BYTES


def test_names_that_would_clash_carry_their_index() -> None:
    results = [
        Result(url="https://h/a/x.png"),
        Result(url="https://h/b/X.PNG"),
        Result(text="words"),
        Result(url="https://h/c/y.png"),
        Result(),
    ]
    assert file_names(results) == {0: "0-x.png", 1: "1-X.PNG", 2: "2.txt", 3: "y.png"}


def test_a_name_that_looks_like_an_index_cannot_force_a_clash() -> None:
    names = file_names([Result(url=f"https://h/{name}") for name in ("x.png", "x.png", "0-x.png", "1-0-x.png")])
    assert len(set(names.values())) == 4


# ---- templates


BODY: JsonObject = {
    "time": "2026-11-22T08:00:00.000Z",
    "task": {
        "id": TASK,
        "kind": "model",
        "target": "google/veo3.1-pro/text-to-video",
        "labels": {"project": "shop", "a/b": "c"},
        "provider_task_id": "1904136902449209346",
    },
}


def paths(template: str, *results: Result, body: JsonObject = BODY) -> list[str]:
    assert template_problem(template) is None
    return list(file_paths(template, results, body).values())


TEXT = st.none() | st.text(max_size=9)


@settings(max_examples=50)
@given(st.lists(st.builds(Result, url=TEXT, text=TEXT, type=TEXT), max_size=4))
@example([Result(url="https://h/" + "a" * 500 + ".png"), Result(url="https://h/CON")])
def test_without_a_template_files_are_named_by_task_and_link(results: list[Result]) -> None:
    expected = {index: f"{TASK}/{name}" for index, name in file_names(results).items()}
    assert file_paths(DEFAULT, results, BODY) == expected


def test_every_place_is_filled() -> None:
    video = Result(url="https://h/clip.mp4?q-sign=x", node_id="12")
    places = [place.replace("label.X", "label.project") for place in PLACES]
    [path] = paths("/".join(f"{{{place}}}" for place in places), video)
    assert path.split("/") == [
        *(TASK, "clip.mp4", "0", "mp4", "2026-11-22", "model", "google_veo3.1-pro_text-to-video"),
        *("1904136902449209346", "12", "shop"),
    ]
    assert paths("{label.a/b}/{{{task}}}-{index}.{ext}", Result(url="https://h/x")) == [f"c/{{{TASK}}}-0.bin"]


def test_what_is_missing_is_an_underscore() -> None:
    template = "{date}/{label.none}/{node}/{provider_task_id}/{task}-{name}"
    task: JsonObject = {"id": TASK, "provider_task_id": None, "labels": {}}
    assert paths(template, Result(text="x"), body={"task": task}) == [f"_/_/_/_/{TASK}-0.txt"]


HOSTILE = st.one_of(
    st.text(), st.sampled_from(["..", "../../x", "/etc/passwd", "", ".", "CON", "a\0b", "{task}", "a" * 300, "..\\x"])
)


@given(HOSTILE, HOSTILE, HOSTILE)
@example("../../x", "../../x", "../../x")
def test_no_value_leaves_its_part_of_a_path(label: str, target: str, url: str) -> None:
    body: JsonObject = {"task": {"id": TASK, "target": target, "labels": {"x": label}}}
    result = Result(url=url or "x", node_id=target, type=label)
    template = "{label.x}/{target}-{node}/{task}/{name}.{label.x}{target}"
    [path] = paths(template, result, body=body)
    parts = path.split("/")
    assert len(parts) == 4
    assert parts[2] == TASK
    for part in parts:
        assert part not in ("", ".", "..")
        assert not part.startswith(".")
        assert len(part.encode()) <= MAX_BYTES
        assert os.path.basename(part) == part
        assert safe_name(part) == part


def test_a_name_that_had_to_be_cut_is_still_one_of_a_kind() -> None:
    long = "a" * 200
    template = "{label.x}-{task}-{name}"
    found = {
        path
        for task in (TASK, OTHER_TASK)
        for path in paths(
            template,
            *(Result(url=f"https://h/{name}.png") for name in (long + "1", "b")),
            body={"task": {"id": task, "labels": {"x": long}}},
        )
    }
    assert len(found) == 4
    assert all(path.endswith(".png") and len(path) <= MAX_CHARACTERS for path in found)


def test_paths_that_would_clash_carry_their_index() -> None:
    results = [Result()] * 12
    results[0], results[10] = Result(url="https://h/x10.p"), Result(url="https://h/X1.p")
    results[1], results[11] = Result(url="https://h/a1"), Result(url="https://h/a")
    assert paths("{task}/{name}{index}", *results) == [
        *(f"{TASK}/x10.p0", f"{TASK}/1-a11", f"{TASK}/X1.p10", f"{TASK}/11-a11"),
    ]


LIST = ", ".join(f"{{{place}}}" for place in PLACES)


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{task}/{nmae}", f"there is no {{nmae}}; expected {LIST}"),
        ("{task}/{name}{label.}", f"there is no {{label.}}; expected {LIST}"),
        ("{task}/{ name }", f"there is no {{ name }}; expected {LIST}"),
        ("{task}/{name", "expected a template; it has a lone {; write {{ for a brace"),
        ("{task}", "expected {task}, and {name} or {index}, or files would take each other's place"),
        ("{date}/{name}", "expected {task}, and {name} or {index}, or files would take each other's place"),
        ("", "expected {task}, and {name} or {index}, or files would take each other's place"),
    ],
)
def test_a_template_that_cannot_serve_is_refused(template: str, problem: str) -> None:
    assert template_problem(template) == problem
    found: list[str] = []
    read_definitions([{"name": "save", "kind": "download", "files": template}], "toml", found)
    assert found == [f"toml: actions[0] (save): files: {problem}, got {template!r}"]


@pytest.mark.parametrize(
    "template",
    [
        *("/{task}/{name}", "../{task}/{name}", "{task}//{name}", "{task}/./{name}", "{task}/{name}/"),
        *("a:b/{task}{name}", "CON/{task}/{name}", "{task}/.{name}", "{task}\\{name}", "{task}/{name}."),
        *(" {task}/{name}", "{task}/\n{name}"),
    ],
)
def test_a_template_with_a_part_that_is_no_name_is_refused(template: str) -> None:
    problem = "expected names with / between them; one is empty, or no name that every file system takes"
    assert template_problem(template) == problem


@pytest.mark.parametrize("key", ["files", "max_size"])
def test_the_keys_of_a_download_belong_to_downloads(key: str) -> None:
    found: list[str] = []
    value = {"files": DEFAULT, "max_size": 1}[key]
    read_definitions([{"name": "p", "kind": "python", "function": "a:b", key: value}], "toml", found)
    assert found == [f"toml: actions[0] (p): {key}: does not belong to kind python"]


def test_a_size_that_lets_nothing_through_is_refused() -> None:
    found: list[str] = []
    read_definitions([{"name": "save", "kind": "download", "max_size": 0}], "toml", found)
    assert found == ["toml: actions[0] (save): max_size: expected more than 0, got 0"]


async def test_files_are_saved_where_the_template_says_and_nowhere_else(
    egress: Egress, server: Storage, tmp_path: Path
) -> None:
    body: JsonObject = {**BODY, "task": {"id": TASK, "labels": {"x": "../../x"}}}
    result = Result(url=server.give("/out/..%2F..%2Fx.png", PNG), node_id="../../x")
    template = "{date}/{label.x}/{node}/{task}-{name}"
    answer = await done(egress, download(tmp_path / "results", result, body=body, files=template))
    path = f"2026-11-22/_.._x/_.._x/{TASK}-_.._x.png"
    assert names_in(tmp_path) == [f"results/{path}"]
    assert answer.files[0].path == f"{tmp_path}/results/{path}"


async def test_a_folder_of_the_template_that_leads_elsewhere_is_refused(egress: Egress, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    directory = tmp_path / "results"
    (directory / "2026-11-22").mkdir(parents=True)
    (directory / "2026-11-22" / TASK).symlink_to(tmp_path / "elsewhere")
    asked = download(directory, Result(text="x"), body=BODY, files="{date}/{task}/{name}")
    told = await failure(egress, asked)
    assert told.reason == f"result 0: the folder {TASK} is a symbolic link to another place"
    assert told.permanent
    assert names_in(tmp_path / "elsewhere") == []


# ---- download


async def test_every_result_is_saved_under_the_task(egress: Egress, server: Storage, tmp_path: Path) -> None:
    video = os.urandom(3 * CHUNK + 17)
    results = [
        Result(url=server.give("/out/clip.mp4", video) + "?sign=secret", type="mp4"),
        Result(text="a poem, äöü"),
        Result(url="data:text/plain;base64," + b64encode(b"inline").decode(), type="md"),
    ]
    answer = await done(egress, download(tmp_path / "results", *results))
    assert [file.path for file in answer.files] == [
        f"{tmp_path}/results/{TASK}/{name}" for name in ("clip.mp4", "1.txt", "2.md")
    ]
    assert [file.result for file in answer.files] == [0, 1, 2]
    assert answer.files[0].sha256 == hashlib.sha256(video).hexdigest()
    assert answer.files[0].size == len(video)
    assert [content(file) for file in answer.files] == [video, "a poem, äöü".encode(), b"inline"]
    assert names_in(tmp_path) == [f"results/{TASK}/{name}" for name in ("1.txt", "2.md", "clip.mp4")]
    assert "secret" not in str(answer.detail)


async def test_a_file_that_was_packed_for_the_way_is_unpacked(egress: Egress, server: Storage, tmp_path: Path) -> None:
    url = server.give("/scene.gltf", gzip.compress(b"scene" * 1000), Content_Encoding="gzip")
    answer = await done(egress, download(tmp_path, Result(url=url)))
    assert content(answer.files[0]) == b"scene" * 1000
    assert server.requests[0].headers["accept-encoding"] == "identity"


async def test_a_relative_directory_is_told_as_it_was_given(egress: Egress, server: Storage, tmp_path: Path) -> None:
    relative = "../" * len(Path.cwd().parts[1:]) + str(tmp_path)[1:]
    answer = await done(egress, download(Path(relative), Result(text="x")))
    assert answer.files[0].path == f"{relative}/{TASK}/0.txt"


async def test_no_results_are_nothing_to_save(egress: Egress, tmp_path: Path) -> None:
    assert (await done(egress, download(tmp_path))).files == ()


async def test_a_complete_file_is_not_fetched_again(egress: Egress, server: Storage, tmp_path: Path) -> None:
    asked = download(tmp_path, Result(url=server.give("/x.png", b"pixels")))
    first = await done(egress, asked)
    again = await done(egress, asked)
    assert len(server.requests) == 1
    assert again.files == first.files
    assert [line["fetched"] for line in [*lines(first), *lines(again)]] == [True, False]


async def test_what_could_be_saved_stays_when_one_fails(egress: Egress, server: Storage, tmp_path: Path) -> None:
    good = Result(url=server.give("/good.png", b"good"))
    dead = Result(url=server.give("/dead.png", status="403 Forbidden"))
    told = await failure(egress, download(tmp_path, dead, good, dead))
    assert told.reason == f"result 0: {server.url('')} answered 403: the link is dead (and 1 more)"
    assert names_in(tmp_path) == [f"{TASK}/good.png"]
    assert (told.expired, told.permanent) == (True, False)
    assert [line["result"] for line in lines(told)] == [1]
    assert [line["result"] for line in lines(told, "broken")] == [0, 2]


@pytest.mark.parametrize(
    ("status", "expired", "wait"),
    [
        ("400 Bad Request", True, None),
        ("401 Unauthorized", True, None),
        ("403 Forbidden", True, None),
        ("404 Not Found", True, None),
        ("410 Gone", True, None),
        ("429 Too Many Requests", False, 7.0),
        ("503 Service Unavailable", False, 7.0),
        ("202 Accepted", False, 7.0),
        ("204 No Content", False, 7.0),
        ("304 Not Modified", False, 7.0),
    ],
)
async def test_a_status_asks_for_another_link_or_for_patience_and_never_ends_a_download(
    egress: Egress, server: Storage, tmp_path: Path, status: str, expired: bool, wait: float | None
) -> None:
    told = await failure(egress, download(tmp_path, Result(url=server.give("/x.png", status=status, Retry_After="7"))))
    assert (told.expired, told.permanent, told.retry_after) == (expired, False, wait)
    assert names_in(tmp_path) == []


# ---- broken off, and continued


async def broken_off(
    egress: Egress, server: Storage, directory: Path, *, at: int = HALF, headers: dict[str, str] | None = None
) -> Work:
    """A download that ended after `at` bytes; the storage serves the whole file from now on."""
    file = server.keep("/x.mp4", VIDEO, headers or TAGGED)
    file.breaks_at = at
    asked = download(directory, Result(url=server.url("/x.mp4") + "?q-signature=first", type="mp4"))
    told = await failure(egress, asked)
    expected = f"broke off (RemoteProtocolError); {at} of {len(VIDEO)} bytes came"
    assert told.reason == f"result 0: {server.url('')} {expected}"
    assert not told.permanent
    file.breaks_at = None
    return asked


async def test_a_download_that_broke_off_is_continued_by_the_next_try(
    egress: Egress, server: Storage, tmp_path: Path
) -> None:
    asked = await broken_off(egress, server, tmp_path)
    assert names_in(tmp_path) == [f"{TASK}/.x.mp4.part", f"{TASK}/.x.mp4.part.json"]
    answer = await done(egress, asked)
    assert content(answer.files[0]) == VIDEO
    assert answer.files[0].sha256 == hashlib.sha256(VIDEO).hexdigest()
    assert server.asked_for("range") == [None, f"bytes={HALF}-"]
    assert server.asked_for("if-range") == [None, ETAG]
    assert server.sent == len(VIDEO)
    assert lines(answer)[0]["continued_at"] == HALF
    assert names_in(tmp_path) == [f"{TASK}/x.mp4"]


async def test_what_is_kept_is_told_and_grows_from_try_to_try(egress: Egress, server: Storage, tmp_path: Path) -> None:
    asked = await broken_off(egress, server, tmp_path, at=1000)
    server.files["/x.mp4"].breaks_at = 3 * 1000
    told = await failure(egress, asked)
    [line] = lines(told, "broken")
    assert (line["continued_at"], line["kept"]) == (1000, 3000)
    server.files["/x.mp4"].breaks_at = None
    assert content((await done(egress, asked)).files[0]) == VIDEO


async def test_an_old_date_stands_in_for_a_strong_tag(egress: Egress, server: Storage, tmp_path: Path) -> None:
    date = "Fri, 15 Jan 2027 07:00:00 GMT"
    asked = await broken_off(egress, server, tmp_path, headers={"ETag": 'W/"weak"', "Last-Modified": date})
    await done(egress, asked)
    assert server.asked_for("if-range") == [None, date]


@pytest.mark.parametrize(
    "headers",
    [
        {"X-None": "x"},
        {"ETag": 'W/"weak"'},
        {"ETag": "bare"},
        {"Last-Modified": "Fri, 15 Jan 2027 08:00:00 GMT"},
        {"Last-Modified": "some day"},
        {"ETag": ETAG, "Accept-Ranges": "none"},
    ],
)
async def test_what_cannot_be_told_from_its_next_version_is_begun_anew(
    egress: Egress, server: Storage, tmp_path: Path, headers: dict[str, str]
) -> None:
    asked = await broken_off(egress, server, tmp_path, headers=headers)
    assert names_in(tmp_path) == []
    assert content((await done(egress, asked)).files[0]) == VIDEO
    assert server.asked_for("range") == [None, None]


async def test_a_file_that_has_changed_is_fetched_anew_and_that_is_told(
    egress: Egress, server: Storage, tmp_path: Path
) -> None:
    asked = await broken_off(egress, server, tmp_path)
    server.keep("/x.mp4", VIDEO[::-1], {"ETag": '"v2"'})
    answer = await done(egress, asked)
    assert content(answer.files[0]) == VIDEO[::-1]
    assert lines(answer)[0]["begun_anew"] == f"{CHANGED}; {HALF} bytes were here"
    assert len(server.requests) == 2
    assert names_in(tmp_path) == [f"{TASK}/x.mp4"]


async def test_a_storage_without_ranges_sends_it_all_again(egress: Egress, server: Storage, tmp_path: Path) -> None:
    asked = await broken_off(egress, server, tmp_path)
    server.keep("/x.mp4", VIDEO, TAGGED, ranges=False)
    answer = await done(egress, asked)
    assert content(answer.files[0]) == VIDEO
    assert lines(answer)[0]["begun_anew"] == f"{WHOLE}; {HALF} bytes were here"


@pytest.mark.parametrize(
    ("status", "headers", "why"),
    [
        ("206 Partial Content", {"Content_Range": f"bytes 0-{HALF - 1}/{len(VIDEO)}"}, UNFIT),
        ("206 Partial Content", {"Content_Range": f"bytes {HALF}-{len(VIDEO)}/{len(VIDEO)}"}, UNFIT),
        ("206 Partial Content", {"Content_Range": f"bytes {HALF}-{len(VIDEO) - 1}/*"}, UNFIT),
        ("206 Partial Content", {"Content_Type": "multipart/byteranges; boundary=x"}, UNFIT),
        ("206 Partial Content", {"Content_Range": f"bytes {HALF}-{len(VIDEO)}/{len(VIDEO) + 1}"}, CHANGED),
        (
            "206 Partial Content",
            {"Content_Range": f"bytes {HALF}-{len(VIDEO) - 1}/{len(VIDEO)}", "ETag": '"v2"'},
            CHANGED,
        ),
        ("416 Range Not Satisfiable", {"Content_Range": f"bytes */{HALF}"}, CHANGED),
        ("416 Range Not Satisfiable", {"Content_Range": f"bytes */{len(VIDEO)}"}, UNFIT),
        ("416 Range Not Satisfiable", {}, UNFIT),
    ],
)
async def test_an_answer_that_does_not_fit_is_not_joined_to_what_is_here(
    egress: Egress, server: Storage, tmp_path: Path, status: str, headers: dict[str, str], why: str
) -> None:
    asked = await broken_off(egress, server, tmp_path)
    server.give("/x.mp4", b"?" * HALF, status, **headers)
    server.once.add("/x.mp4")
    answer = await done(egress, asked)
    assert content(answer.files[0]) == VIDEO
    assert lines(answer)[0]["begun_anew"] == f"{why}; {HALF} bytes were here"
    assert server.asked_for("range") == [None, f"bytes={HALF}-", None]


async def test_a_file_that_had_come_whole_is_accepted_without_another_byte(
    egress: Egress, server: Storage, tmp_path: Path
) -> None:
    """A process that was killed between the last byte and the rename."""
    folder = tmp_path / TASK
    folder.mkdir()
    part = Part(folder / "x.mp4", now=NOW)
    part.open(link_identity(server.url("/x.mp4")))
    part.restart(Origin(link=link_identity(server.url("/x.mp4")), validator=ETAG, total=len(VIDEO)))
    part.write(VIDEO)
    assert part.put_down() == len(VIDEO)
    server.keep("/x.mp4", VIDEO, TAGGED)
    answer = await done(egress, download(tmp_path, Result(url=server.url("/x.mp4"), type="mp4")))
    assert content(answer.files[0]) == VIDEO
    assert server.sent == 0
    assert names_in(tmp_path) == [f"{TASK}/x.mp4"]


async def test_a_link_that_was_signed_anew_is_the_same_and_another_is_not(
    egress: Egress, server: Storage, tmp_path: Path
) -> None:
    asked = await broken_off(egress, server, tmp_path)
    again = Result(url=server.url("/x.mp4") + "?q-signature=second&q-sign-time=1", type="mp4")
    server.files["/x.mp4"].breaks_at = HALF + 1
    await failure(egress, msgspec.structs.replace(asked, results=[again]))
    server.files["/x.mp4"].breaks_at = None
    other = Result(url=server.url("/x.mp4") + "?version=2", type="mp4")
    await done(egress, msgspec.structs.replace(asked, results=[other]))
    assert server.asked_for("range") == [None, f"bytes={HALF}-", None]


async def test_a_download_that_is_cancelled_is_continued(egress: Egress, server: Storage, tmp_path: Path) -> None:
    file = server.keep("/x.mp4", VIDEO, TAGGED)
    file.hangs_at = HALF + 1000
    asked = download(tmp_path, Result(url=server.url("/x.mp4"), type="mp4"))
    task = asyncio.create_task(done(egress, asked))
    await server.hanging.wait()
    await until_written(tmp_path / TASK / ".x.mp4.part")
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    begins_at = (tmp_path / TASK / ".x.mp4.part").stat().st_size
    assert 0 < begins_at <= HALF + 1000
    assert left_behind(caught.value) == [f"result 0: {begins_at} bytes of it, with which the next attempt begins"]
    file.hangs_at = None
    answer = await done(egress, asked)
    assert lines(answer)[0]["continued_at"] == begins_at
    assert content(answer.files[0]) == VIDEO


async def until_written(path: Path) -> None:
    """Waits until a file has any bytes."""
    async with asyncio.timeout(5):
        while True:
            if (await asyncio.to_thread(path.stat)).st_size:
                return


async def test_a_download_that_is_cancelled_before_its_first_byte_leaves_no_file(
    egress: Egress, server: Storage, tmp_path: Path
) -> None:
    server.keep("/x.mp4", VIDEO, TAGGED).hangs_at = 0
    task = asyncio.create_task(done(egress, download(tmp_path, Result(url=server.url("/x.mp4")))))
    await server.hanging.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert names_in(tmp_path) == []


async def test_a_full_disk_keeps_what_is_here(egress: Egress, server: Storage, tmp_path: Path) -> None:
    asked = await broken_off(egress, server, tmp_path)
    server.files["/x.mp4"].hangs_at = HALF
    with pytest.raises(ActionFailed, match="No space left on device") as caught:
        await Downloader(egress, lambda: NOW, room=lambda _: 0)(asked)
    assert lines(caught.value, "broken")[0]["kept"] == HALF
    server.files["/x.mp4"].hangs_at = None
    assert content((await done(egress, asked)).files[0]) == VIDEO


def test_only_what_is_missing_needs_room(tmp_path: Path) -> None:
    part = begun(tmp_path / "x", b"12345678", total=20)
    part.put_down()
    for room, refused in ((11, True), (12, False)):
        again = Part(tmp_path / "x", room=lambda _, room=room: room)  # type: ignore[misc]
        again.open("link")
        assert again.size == 8
        if refused:
            with pytest.raises(OSError, match="No space left") as caught:
                again.reserve(20)
            assert caught.value.errno == errno.ENOSPC
        else:
            again.reserve(20)
        again.put_down()


def begun(path: Path, data: bytes, *, total: int | None = None) -> Part:
    """A part with some bytes of a file that can be continued."""
    part = Part(path, now=NOW)
    part.open("link")
    part.restart(Origin(link="link", validator=ETAG, total=total))
    part.write(data)
    return part


def size_after_opening(path: Path, link: str = "link") -> int:
    part = Part(path, now=NOW)
    part.open(link)
    size = part.size
    part.put_down()
    return size


async def killed_while_writing(path: Path, size: int) -> None:
    code = (
        "import os, sys; from pathlib import Path; from receiver.actions.download.partial import Origin, Part;"
        "part = Part(Path(sys.argv[1])); part.open('link');"
        "part.restart(Origin(link='link', validator='\"v1\"', total=None)); part.write(bytes(int(sys.argv[2])));"
        "os.kill(os.getpid(), 9)"
    )
    killed = await asyncio.create_subprocess_exec(sys.executable, "-c", code, str(path), str(size))
    assert await killed.wait() == -signal.SIGKILL


async def test_a_killed_process_leaves_what_its_note_vouches_for(tmp_path: Path) -> None:
    await killed_while_writing(tmp_path / "x.mp4", NOTE_EVERY)
    assert names_in(tmp_path) == [".x.mp4.part", ".x.mp4.part.json"]
    assert size_after_opening(tmp_path / "x.mp4") == NOTE_EVERY
    await killed_while_writing(tmp_path / "y.mp4", NOTE_EVERY - 1)
    assert size_after_opening(tmp_path / "y.mp4") == 0


def test_a_process_that_is_killed_before_the_first_answer_leaves_a_part_that_is_known_as_ours(tmp_path: Path) -> None:
    (tmp_path / TASK).mkdir()
    waiting = Part(tmp_path / TASK / "x", now=NOW)
    waiting.open("link")
    left = {path.name: path.read_bytes() for path in (tmp_path / TASK).iterdir()}
    waiting.discard()
    for name, data in left.items():
        (tmp_path / TASK / name).write_bytes(data)
    assert size_after_opening(tmp_path / TASK / "x") == 0
    for name, data in left.items():
        (tmp_path / TASK / name).write_bytes(data)
    assert tidy_stale(tmp_path, 1, NOW + 1) == [tmp_path / TASK / "x"]
    assert names_in(tmp_path) == []


class GivenUpMeanwhile(Part):
    """It is put down, by another thread, while it reads what is there."""

    def _vouched_for(self, file: BinaryIO, note: Note) -> bool:
        self._over = True
        return super()._vouched_for(file, note)


def test_what_is_here_outlives_a_stop_while_it_is_read(tmp_path: Path) -> None:
    begun(tmp_path / "x", b"12345678").put_down()
    part = GivenUpMeanwhile(tmp_path / "x")
    part.open("link")
    assert part.put_down() == 0
    assert size_after_opening(tmp_path / "x") == 8


def test_what_was_written_after_the_note_is_not_believed(tmp_path: Path) -> None:
    begun(tmp_path / "x", b"12345678").put_down()
    with beside(tmp_path / "x", ".part").open("ab") as file:
        file.write(b"from elsewhere")
    part = Part(tmp_path / "x")
    part.open("link")
    assert part.size == 8
    part.write(b"9")
    assert part.finish().sha256 == hashlib.sha256(b"123456789").hexdigest()
    assert (tmp_path / "x").read_bytes() == b"123456789"


@pytest.mark.parametrize("damage", ["changed", "shorter", "gone"])
def test_bytes_that_are_not_those_that_came_are_not_continued(tmp_path: Path, damage: str) -> None:
    begun(tmp_path / "x", b"12345678").put_down()
    part = beside(tmp_path / "x", ".part")
    if damage == "gone":
        part.unlink()
    else:
        part.write_bytes({"changed": b"1234x678", "shorter": b"1234567"}[damage])
    assert size_after_opening(tmp_path / "x") == 0
    assert names_in(tmp_path) == []


@pytest.mark.parametrize(
    "note",
    [
        b"",
        b"{}",
        b"[" * 100_000,
        b'{"origin": null, "size": 8, "sha256": "x", "at": 1}',
        b"\xff",
        msgspec.json.encode(Note(origin=Origin(link="other", validator=ETAG, total=None), size=8, sha256="", at=0)),
        msgspec.json.encode(Note(origin=Origin(link="link", validator=ETAG, total=7), size=8, sha256="", at=0)),
        msgspec.json.encode(Note(origin=Origin(link="link", validator=None, total=None), size=8, sha256="", at=0)),
    ],
)
def test_a_note_that_does_not_fit_is_no_note(tmp_path: Path, note: bytes) -> None:
    begun(tmp_path / "x", b"12345678").put_down()
    path = beside(tmp_path / "x", ".part.json")
    digest = hashlib.sha256(b"12345678").hexdigest().encode()
    path.write_bytes(note.replace(b'"sha256":""', b'"sha256":"%s"' % digest))
    assert size_after_opening(tmp_path / "x") == 0


def test_a_note_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    begun(tmp_path / "x", b"12345678").put_down()
    note = beside(tmp_path / "x", ".part.json")
    note.rename(tmp_path / "mine")
    note.symlink_to(tmp_path / "mine")
    assert size_after_opening(tmp_path / "x") == 0
    before = (tmp_path / "mine").read_bytes()
    begun(tmp_path / "x", b"abc").put_down()
    assert (tmp_path / "mine").read_bytes() == before


def test_two_writers_of_one_file_cannot_mix(tmp_path: Path) -> None:
    first, second = begun(tmp_path / "x", b"first"), Part(tmp_path / "x")
    with pytest.raises(OSError, match="another attempt is writing it") as caught:
        second.open("link")
    assert caught.value.errno == errno.EBUSY
    second.put_down(b"second")
    second.discard()
    tidy(tmp_path / "x")
    assert first.finish().size == 5
    assert (tmp_path / "x").read_bytes() == b"first"
    assert names_in(tmp_path) == ["x"]


def test_bytes_that_the_disk_did_not_take_are_not_believed_by_the_next_try(tmp_path: Path) -> None:
    def refuse(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    begun(tmp_path / "x", b"12345678").put_down()
    part = Part(tmp_path / "x", sync=refuse)
    part.open("link")
    assert part.size == 8
    with pytest.raises(OSError, match="Input/output error"):
        part.finish()
    assert part.put_down() == 0
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("end", ["finish", "put_down", "discard"])
def test_a_writer_whose_part_was_removed_leaves_the_next_ones_alone(tmp_path: Path, end: str) -> None:
    first = begun(tmp_path / "x", b"first")
    beside(tmp_path / "x", ".part").unlink()
    second = begun(tmp_path / "x", b"sec")
    if end == "finish":
        with pytest.raises(OSError, match="removed before it was whole"):
            first.finish()
        assert not (tmp_path / "x").exists()
        assert first.put_down() == 0
    else:
        assert not getattr(first, end)()
    second.write(b"ond")
    assert second.finish().sha256 == hashlib.sha256(b"second").hexdigest()
    assert (tmp_path / "x").read_bytes() == b"second"
    assert names_in(tmp_path) == ["x"]


def test_a_part_that_was_removed_leaves_no_note(tmp_path: Path) -> None:
    part = begun(tmp_path / "x", b"12345678")
    beside(tmp_path / "x", ".part").unlink()
    assert part.put_down() == 0
    assert names_in(tmp_path) == []


class FollowedAtOnce(Part):
    """Another try begins between the renaming of its part and the removal of what stands beside it."""

    def _clear(self) -> None:
        self.next = begun(self.path, b"other")
        super()._clear()


def test_a_writer_that_has_finished_leaves_the_next_ones_part_alone(tmp_path: Path) -> None:
    first = FollowedAtOnce(tmp_path / "x")
    first.open("link")
    first.restart(Origin(link="link", validator=ETAG, total=None))
    first.write(b"first")
    first.finish()
    assert names_in(tmp_path) == [".x.part", ".x.part.json", "x"]
    assert first.next.put_down() == 5
    assert size_after_opening(tmp_path / "x") == 5


def test_a_file_that_another_try_finished_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    part = begun(tmp_path / "x", b"next version")
    (tmp_path / "x").write_bytes(b"first")
    there = part.finish()
    assert (there.size, there.sha256) == (5, hashlib.sha256(b"first").hexdigest())
    assert (tmp_path / "x").read_bytes() == b"first"
    assert names_in(tmp_path) == ["x"]


def test_a_writer_that_was_given_up_does_nothing_more(tmp_path: Path) -> None:
    part = begun(tmp_path / "x", b"12")
    assert part.put_down(b"3") == 3
    part.write(b"late")
    part.restart(Origin(link="link", validator=ETAG, total=None))
    assert part.head == b"123"
    with pytest.raises(OSError, match="given up"):
        part.finish()
    part.discard()
    assert size_after_opening(tmp_path / "x") == 3
    unopened = Part(tmp_path / "y")
    unopened.put_down()
    unopened.open("link")
    assert names_in(tmp_path) == [".x.part", ".x.part.json"]


# ---- what remains


@pytest.mark.parametrize("status", ["403 Forbidden", "503 Service Unavailable"])
async def test_a_passing_failure_keeps_what_is_here_until_the_last_try(
    egress: Egress, server: Storage, tmp_path: Path, status: str
) -> None:
    asked = await broken_off(egress, server, tmp_path)
    server.give("/x.mp4", status=status)
    assert lines(await failure(egress, asked), "broken")[0]["kept"] == HALF
    assert len(names_in(tmp_path)) == 2
    assert "kept" not in lines(await failure(egress, msgspec.structs.replace(asked, attempt=12)), "broken")[0]
    assert names_in(tmp_path) == []


async def test_a_file_that_is_there_is_tidied_up_around(egress: Egress, server: Storage, tmp_path: Path) -> None:
    """Two tries at once, or a crash between the rename and the removal of the note."""
    asked = await broken_off(egress, server, tmp_path)
    beside(tmp_path / TASK / "x.mp4", ".part.link").write_text("")
    (tmp_path / TASK / "x.mp4").write_bytes(VIDEO)
    await done(egress, asked)
    assert names_in(tmp_path) == [f"{TASK}/x.mp4"]


async def test_a_part_that_no_try_has_touched_for_as_long_as_links_live_is_removed(
    egress: Egress, server: Storage, tmp_path: Path
) -> None:
    await broken_off(egress, server, tmp_path)
    (tmp_path / "mine.part.json").write_text("{}")
    (tmp_path / ".mine.part.json").write_text("{}")
    (tmp_path / ".mine.part").write_text("")
    other = download(tmp_path, Result(text="x"), task=OTHER_TASK)
    await Downloader(egress, lambda: NOW + rules.LINKS_LIVE)(other)
    assert len(names_in(tmp_path)) == 6
    await Downloader(egress, lambda: NOW + rules.LINKS_LIVE + 1)(other)
    assert names_in(tmp_path) == [".mine.part", ".mine.part.json", f"{OTHER_TASK}/0.txt", "mine.part.json"]


def test_a_stale_part_is_sought_only_as_deep_as_files_lie_and_not_behind_links(tmp_path: Path) -> None:
    for folder in ("a/b", "elsewhere"):
        (tmp_path / folder).mkdir(parents=True)
        begun(tmp_path / folder / "x", b"1").put_down()
    root = tmp_path / "a"
    (root / "link").symlink_to(tmp_path / "elsewhere")
    assert tidy_stale(root, 0, NOW + 1) == []
    assert tidy_stale(root, 1, NOW) == []
    assert tidy_stale(root, 1, NOW + 1) == [root / "b" / "x"]
    assert tidy_stale(tmp_path / "nowhere", 1, NOW) == []


def test_a_note_of_a_file_without_a_name_is_none_of_ours(tmp_path: Path) -> None:
    """Such a name would lead to the folder itself, or beside it."""
    (tmp_path / "folder").mkdir()
    begun(tmp_path / "folder", b"1").put_down()
    for name in (".part.json", "..part.json", "...part.json", "....part.json"):
        (tmp_path / "folder" / name).write_text("{}")
    assert tidy_stale(tmp_path / "folder", 0, NOW + 1) == []
    assert size_after_opening(tmp_path / "folder") == 1


async def test_what_cannot_be_removed_does_not_hide_why_a_try_failed(
    egress: Egress, server: Storage, tmp_path: Path
) -> None:
    (tmp_path / TASK / ".x.png.part.link").mkdir(parents=True)
    url = server.give("/x.png", status="400 Bad Request")
    told = await failure(egress, download(tmp_path, Result(url=url)))
    assert told.reason == f"result 0: {server.url('')} answered 400: the link is dead"


async def test_what_cannot_be_removed_does_not_hide_a_cancellation(
    egress: Egress, server: Storage, tmp_path: Path
) -> None:
    (tmp_path / TASK / ".x.mp4.part.link").mkdir(parents=True)
    server.keep("/x.mp4", VIDEO, TAGGED).hangs_at = 0
    task = asyncio.create_task(done(egress, download(tmp_path, Result(url=server.url("/x.mp4")), Result(text="x"))))
    await server.hanging.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not (tmp_path / TASK / "1.txt").exists()


# ---- length, kind and size


def chunked(*chunks: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))


async def test_a_file_that_breaks_off_without_a_tag_leaves_no_file(
    egress: Egress, server: Storage, tmp_path: Path
) -> None:
    url = server.give("/x.mp4", b"half", Content_Length="8")
    told = await failure(egress, download(tmp_path, Result(url=url)))
    assert told.reason == f"result 0: {server.url('')} broke off (RemoteProtocolError); 4 of 8 bytes came"
    assert not told.permanent
    assert names_in(tmp_path) == []


@pytest.mark.parametrize(
    ("came", "reason"),
    [
        (b"1234", "result 0: only 4 of 8 bytes came"),
        (b"123456789", "result 0: more than the 8 bytes came that the file should have"),
    ],
)
async def test_a_file_of_another_length_than_was_told_is_no_result(
    egress: Egress, server: Storage, tmp_path: Path, came: bytes, reason: str
) -> None:
    url = server.give("/x.mp4", chunked(came), Content_Length="8", Transfer_Encoding="chunked", ETag=ETAG)
    told = await failure(egress, download(tmp_path, Result(url=url)))
    assert (told.reason, told.permanent) == (reason, False)
    assert not (tmp_path / TASK / "x.mp4").exists()
    server.keep("/x.mp4", b"12345678", TAGGED)
    assert content((await done(egress, download(tmp_path, Result(url=url)))).files[0]) == b"12345678"


@pytest.mark.parametrize(
    ("came", "reason"),
    [
        (VIDEO[HALF:-1], f"result 0: only {len(VIDEO) - 1} of {len(VIDEO)} bytes came"),
        (VIDEO[HALF:] + b"x", f"result 0: more than the {len(VIDEO)} bytes came that the file should have"),
    ],
)
async def test_a_continued_file_is_held_to_its_total(
    egress: Egress, server: Storage, tmp_path: Path, came: bytes, reason: str
) -> None:
    asked = await broken_off(egress, server, tmp_path)
    place = f"bytes {HALF}-{len(VIDEO) - 1}/{len(VIDEO)}"
    status = "206 Partial Content"
    headers = {"Content_Length": "", "Transfer_Encoding": "chunked", "Content_Range": place}
    server.give("/x.mp4", chunked(came), status, **headers)
    told = await failure(egress, asked)
    assert (told.reason, told.permanent) == (reason, False)
    assert not (tmp_path / TASK / "x.mp4").exists()
    server.answers.clear()
    assert content((await done(egress, asked)).files[0]) == VIDEO


HTML = b"<!DOCTYPE html>\n<title>502 Bad Gateway</title>"
XML = b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code></Error>'
JSON = b'{"code": 404, "message": "not found"}'
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"


@pytest.mark.parametrize(
    ("kind", "name", "media_type", "head", "wrong"),
    [
        ("png", "x.png", "text/html; charset=utf-8", HTML, "a page (HTML) came in place of the png"),
        ("png", "x.png", "image/png", HTML, "a page (HTML) came in place of the png"),
        ("mp4", "x.mp4", "application/xml", XML, "a page (XML) came in place of the mp4"),
        ("mp4", "x.mp4", "", XML, "a page (XML) came in place of the mp4"),
        (".MP3", "x", "application/problem+json", JSON, "a page (JSON) came in place of the mp3"),
        ("video/mp4", "x", "", JSON, "a page (JSON) came in place of the mp4"),
        ("image", "x", "", b"\xef\xbb\xbf \n<html>", "a page (HTML) came in place of the image"),
        ("image", "x", "text/html", b"no file", "a page (HTML) came in place of the image"),
        (None, "x.webp", "", b"\xef\xbb\xbf  [{}]", "a page (JSON) came in place of the webp"),
        (None, "x.glb", "application/json", b"null", "a page (JSON) came in place of the glb"),
        ("png", "x.png", "application/xhtml+xml", b"<html", "a page (HTML) came in place of the png"),
        ("png", "x.png", "", "<p>早".encode()[:-1], "a page (XML) came in place of the png"),
        ("png", "x.png", "image/png", b"", "an empty file came in place of the png"),
        ("file", "x.zip", "", b"", "an empty file came in place of the zip"),
        ("png", "x.png", "text/html", PNG, None),
        ("png", "x.png", "text/plain", b"pixels", None),
        ("png", "x.png", "application/xml", b"<\0\0\0", None),
        ("jpg", "x.jpg", "", b"<\xff\xd8\xff\xe0" * 9, None),
        ("obj", "x.obj", "text/plain", b"# Blender\nv 0 0 0", None),
        ("obj", "x.obj", "text/html", b"# Blender\nv 0 0 0", None),
        ("obj", "x.obj", "application/json", b"mtllib a.mtl\no cube\nv 0 0 0", None),
        ("model", "x.stl", "text/html; charset=utf-8", b"solid cube\n  facet normal 0 0 1", None),
        (None, "x.ply", "application/xml", b"ply\nformat ascii 1.0\n", None),
        ("fbx", "x.fbx", "text/html", b"; FBX 7.3.0 project file\n", None),
        ("obj", "x.obj", "text/html", b"no file", "a page (HTML) came in place of the obj"),
        ("stl", "x.stl", "text/plain", HTML, "a page (HTML) came in place of the stl"),
        ("ply", "x.ply", "", JSON, "a page (JSON) came in place of the ply"),
        ("svg", "x.svg", "image/svg+xml", b"<svg>", None),
        ("image", "x.svg", "image/svg+xml", b"<svg>", None),
        ("image", "x", "image/svg+xml", b"<svg>", None),
        ("json", "x.png", "application/json", JSON, None),
        ("gltf", "x.gltf", "model/gltf+json", JSON, None),
        ("txt", "x.txt", "text/plain", b"", None),
        ("string", "x", "", b"", None),
        (None, "x.html", "text/html", HTML, None),
        (None, "x", "text/html", HTML, None),
    ],
)
def test_a_page_or_nothing_is_told_from_a_file(
    kind: str | None, name: str, media_type: str, head: bytes, wrong: str | None
) -> None:
    assert what_is_wrong(kind, name, media_type, head) == wrong


@given(st.binary(), st.text(), st.text(), st.none() | st.text())
def test_any_bytes_of_any_type_are_judged(head: bytes, name: str, media_type: str, kind: str | None) -> None:
    what_is_wrong(kind, name, media_type, head)


async def test_a_text_is_a_text_whatever_its_type(egress: Egress, tmp_path: Path) -> None:
    answer = await done(egress, download(tmp_path, Result(text="<p>a poem", type="png"), Result(text="", type="png")))
    assert [content(file) for file in answer.files] == [b"<p>a poem", b""]


async def test_a_link_that_holds_a_page_is_no_image_either(egress: Egress, tmp_path: Path) -> None:
    told = await failure(egress, download(tmp_path, Result(url="data:text/html,<html>", type="png")))
    assert told.reason == "result 0: a page (HTML) came in place of the png"


@pytest.mark.parametrize("body", [HTML, b""])
async def test_a_page_in_the_place_of_a_file_is_no_result(
    egress: Egress, server: Storage, tmp_path: Path, body: bytes
) -> None:
    url = server.give("/x.png", body, Content_Type="text/html", ETag=ETAG)
    asked = download(tmp_path, Result(url=url, type="png"))
    told = await failure(egress, asked)
    assert (told.reason.endswith("came in place of the png"), told.permanent) == (True, False)
    assert names_in(tmp_path) == []
    server.give("/x.png", PNG)
    assert content((await done(egress, asked)).files[0]) == PNG


REMEDY = "than `max_size`, 8; raise `max_size` of save and retry the action"


async def test_a_file_that_is_too_large_is_refused_before_it_comes(
    egress: Egress, server: Storage, tmp_path: Path
) -> None:
    server.keep("/x.mp4", VIDEO, TAGGED).hangs_at = 0
    told = await failure(egress, download(tmp_path, Result(url=server.url("/x.mp4")), max_size=8))
    assert (told.reason, told.permanent) == (f"result 0: the file has {len(VIDEO)} bytes, more {REMEDY}", True)
    assert names_in(tmp_path) == []


async def test_a_file_that_grows_too_large_is_refused_while_it_comes(
    egress: Egress, server: Storage, tmp_path: Path
) -> None:
    chunks = {"Content_Length": "", "Transfer_Encoding": "chunked", "ETag": ETAG}
    asked = download(tmp_path, Result(url=server.give("/x.mp4", chunked(b"12345678", b"9"), **chunks)), max_size=8)
    told = await failure(egress, asked)
    assert (told.reason, told.permanent) == (f"result 0: the file is larger {REMEDY}", True)
    assert names_in(tmp_path) == []
    server.give("/x.mp4", chunked(b"1234", b"5678"), **chunks)
    assert (await done(egress, asked)).files[0].size == 8


async def test_a_continued_file_may_not_be_too_large_either(egress: Egress, server: Storage, tmp_path: Path) -> None:
    asked = await broken_off(egress, server, tmp_path)
    server.files["/x.mp4"].hangs_at = HALF
    smaller = msgspec.structs.replace(asked.definition, max_size=len(VIDEO) - 1)
    told = await failure(egress, msgspec.structs.replace(asked, definition=smaller))
    assert told.permanent
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("result", [Result(text="123456789"), Result(url="data:,123456789")])
async def test_texts_and_inline_data_have_the_same_limit(egress: Egress, tmp_path: Path, result: Result) -> None:
    told = await failure(egress, download(tmp_path, result, max_size=8))
    assert (told.reason, told.permanent) == (f"result 0: the file has 9 bytes, more {REMEDY}", True)


# ---- the disk


async def test_a_disk_that_is_nearly_full_is_not_filled(egress: Egress, server: Storage, tmp_path: Path) -> None:
    perform = Downloader(egress, lambda: NOW, room=lambda _: len(VIDEO) - 1)
    server.keep("/x.mp4", VIDEO, TAGGED).hangs_at = 0
    with pytest.raises(ActionFailed) as caught:
        await perform(download(tmp_path, Result(url=server.url("/x.mp4"))))
    assert caught.value.reason == f"result 0: the file could not be written: {NO_ROOM}"
    assert (caught.value.permanent, caught.value.category.accuses_target) == (False, False)
    assert names_in(tmp_path) == []


async def test_a_task_folder_that_leads_elsewhere_is_refused(egress: Egress, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    for target in ("elsewhere", "nowhere"):
        directory = tmp_path / f"results-{target}"
        directory.mkdir()
        (directory / TASK).symlink_to(tmp_path / target)
        told = await failure(egress, download(directory, Result(text="x")))
        assert told.permanent
    assert names_in(tmp_path / "elsewhere") == []
    assert not (tmp_path / "nowhere").exists()


async def test_links_in_the_place_of_files_are_replaced_not_followed(egress: Egress, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("mine")
    folder = tmp_path / "results" / TASK
    folder.mkdir(parents=True)
    (folder / "0.txt").symlink_to(outside)
    (folder / "1.txt").symlink_to(tmp_path / "nowhere")
    (folder / ".0.txt.part").symlink_to(outside)
    await done(egress, download(tmp_path / "results", Result(text="a"), Result(text="b")))
    assert outside.read_text() == "mine"
    assert not (tmp_path / "nowhere").exists()
    assert [(folder / name).read_text() for name in ("0.txt", "1.txt")] == ["a", "b"]
    assert not (folder / "0.txt").is_symlink()


async def test_a_folder_in_the_place_of_a_file_is_a_failure(egress: Egress, tmp_path: Path) -> None:
    (tmp_path / TASK / "0.txt").mkdir(parents=True)
    told = await failure(egress, download(tmp_path, Result(text="a")))
    assert told.reason == "result 0: the file could not be written: Is a directory"
    assert kept(tmp_path / TASK / "0.txt") is None


async def test_a_directory_that_cannot_be_made_is_a_failure(egress: Egress, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    told = await failure(egress, download(tmp_path / "file", Result(text="a")))
    assert told.reason == "result 0: the folder could not be made: File exists"


async def test_a_redirect_to_the_file_is_followed(egress: Egress, server: Storage, tmp_path: Path) -> None:
    server.give("/new.png", b"pixels")
    url = server.give("/old.png", status="302 Found", Location="/new.png")
    answer = await done(egress, download(tmp_path, Result(url=url)))
    assert names_in(tmp_path) == [f"{TASK}/old.png"]
    assert content(answer.files[0]) == b"pixels"


async def test_a_circle_of_redirects_ends(egress: Egress, server: Storage, tmp_path: Path) -> None:
    url = server.give("/x.png", status="302 Found", Location="/x.png")
    told = await failure(egress, download(tmp_path, Result(url=url)))
    assert told.reason == f"result 0: {server.url('')} redirects more than 5 times"
    assert len(server.requests) == 6


@pytest.mark.parametrize("url", ["data:image/png", "data:;base64,%%%", "data:;base64,A"])
def test_a_data_url_without_data_is_a_permanent_failure(url: str) -> None:
    with pytest.raises(ActionFailed) as caught:
        data_bytes(url)
    assert caught.value.permanent


def test_a_data_url_may_be_plain() -> None:
    assert data_bytes("data:,hello%20world") == b"hello world"
