"""Stories of the performers: real files, real processes, real sockets on the loopback, no traffic beyond it."""

import asyncio
import errno
import gzip
import hashlib
import os
import signal
import sys
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from ssl import PROTOCOL_TLS_CLIENT, SSLContext
from typing import Any

import msgspec
import pytest

from receiver.actions import ActionFailed, Done, Work
from receiver.actions.download import Downloader, data_bytes
from receiver.actions.egress import Egress
from receiver.actions.folder import CHUNK, Part, kept
from receiver.actions.names import MAX_BYTES, MAX_CHARACTERS, file_names, safe_name
from receiver.actions.performers import performers
from receiver.records import ActionKind, Definition, JsonObject, Result, SavedFile

TASK = "019a0000-0000-7000-8000-000000000001"
KEY = f"{TASK}:save:1"
NOW = 1_800_000_000.0
TLS = SSLContext(PROTOCOL_TLS_CLIENT)


# ---- what the stories are made of


class Request(msgspec.Struct):
    line: str
    headers: dict[str, str]
    body: bytes


class Server:
    """Answers each path with the bytes it was given, and remembers what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, bytes] = {}
        self.requests: list[Request] = []
        self.stalled = asyncio.Event()
        self.port = 0

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def give(self, path: str, body: bytes = b"", status: str = "200 OK", **headers: str) -> str:
        lines = {"Content-Length": str(len(body)), "Connection": "close"}
        lines.update({name.replace("_", "-"): value for name, value in headers.items()})
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self.answers[path] = f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body
        return self.url(path)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            self.requests.append(Request(head[0], headers, body))
            path = head[0].split(" ")[1].split("?")[0]
            if path == "/stall":
                self.stalled.set()
                await reader.read()
            writer.write(self.answers.get(path, b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"))
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # connected and said nothing
        finally:
            writer.close()

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Server"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        async with server:
            yield self


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with Server().running() as running:
        yield running


@pytest.fixture
async def egress() -> AsyncIterator[Egress]:
    egress = Egress(tls=TLS)
    yield egress
    await egress.aclose()


def work(kind: ActionKind, *, results: list[Result] | None = None, attempt: int = 1, **settings: Any) -> Work:  # noqa: ANN401
    settings = {"timeout": 5.0, "allow_private": True, **settings}
    definition = Definition(name="save", kind=kind, **settings)
    body: JsonObject = {"type": "task.succeeded", "id": "e", "task": {"id": TASK, "labels": {"a": "ä"}}}
    return Work(definition=definition, body=body, results=results or [], task_id=TASK, key=KEY, attempt=attempt)


def download(directory: Path, *results: Result, **settings: Any) -> Work:  # noqa: ANN401
    return work(ActionKind.DOWNLOAD, results=list(results), directory=str(directory), **settings)


async def done(egress: Egress, asked: Work) -> Done:
    return await performers(egress, clock=lambda: NOW)[asked.definition.kind](asked)


async def failure(egress: Egress, asked: Work) -> ActionFailed:
    with pytest.raises(ActionFailed) as caught:
        await done(egress, asked)
    return caught.value


def content(file: SavedFile) -> bytes:
    return Path(file.path).read_bytes()


def names_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())


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


# ---- download


async def test_every_result_is_saved_under_the_task(egress: Egress, server: Server, tmp_path: Path) -> None:
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


async def test_a_file_that_was_packed_for_the_way_is_unpacked(egress: Egress, server: Server, tmp_path: Path) -> None:
    url = server.give("/scene.gltf", gzip.compress(b"scene" * 1000), Content_Encoding="gzip")
    answer = await done(egress, download(tmp_path, Result(url=url)))
    assert content(answer.files[0]) == b"scene" * 1000
    assert server.requests[0].headers["accept-encoding"] == "identity"


async def test_a_relative_directory_is_told_as_it_was_given(egress: Egress, server: Server, tmp_path: Path) -> None:
    relative = "../" * len(Path.cwd().parts[1:]) + str(tmp_path)[1:]
    answer = await done(egress, download(Path(relative), Result(text="x")))
    assert answer.files[0].path == f"{relative}/{TASK}/0.txt"


async def test_no_results_are_nothing_to_save(egress: Egress, tmp_path: Path) -> None:
    assert (await done(egress, download(tmp_path))).files == ()


async def test_a_complete_file_is_not_fetched_again(egress: Egress, server: Server, tmp_path: Path) -> None:
    asked = download(tmp_path, Result(url=server.give("/x.png", b"pixels")))
    first = await done(egress, asked)
    again = await done(egress, asked)
    assert len(server.requests) == 1
    assert again.files == first.files
    assert "'fetched': False" in str(again.detail)


async def test_what_could_be_saved_stays_when_one_fails(egress: Egress, server: Server, tmp_path: Path) -> None:
    good = Result(url=server.give("/good.png", b"good"))
    dead = Result(url=server.give("/dead.png", status="403 Forbidden"))
    told = await failure(egress, download(tmp_path, dead, good, dead))
    assert told.reason == f"result 0: {server.url('')} answered 403: the link is dead (and 1 more)"
    assert names_in(tmp_path) == [f"{TASK}/good.png"]
    assert (told.expired, told.permanent) == (True, False)
    assert "good.png" in str(told.detail)


@pytest.mark.parametrize(
    ("status", "expired", "permanent", "wait"),
    [
        ("403 Forbidden", True, False, None),
        ("404 Not Found", True, False, None),
        ("410 Gone", True, False, None),
        ("429 Too Many Requests", False, False, 7.0),
        ("503 Service Unavailable", False, False, 7.0),
        ("400 Bad Request", False, True, None),
        ("304 Not Modified", False, True, None),
    ],
)
async def test_the_status_of_a_link_decides_what_is_next(
    egress: Egress, server: Server, tmp_path: Path, status: str, expired: bool, permanent: bool, wait: float | None
) -> None:
    told = await failure(egress, download(tmp_path, Result(url=server.give("/x.png", status=status, Retry_After="7"))))
    assert (told.expired, told.permanent, told.retry_after) == (expired, permanent, wait)
    assert names_in(tmp_path) == []


async def test_a_file_that_breaks_off_leaves_no_file(egress: Egress, server: Server, tmp_path: Path) -> None:
    url = server.give("/x.mp4", b"half", Content_Length="8")
    told = await failure(egress, download(tmp_path, Result(url=url)))
    assert told.reason == f"result 0: {server.url('')} broke off (RemoteProtocolError)"
    assert not told.permanent
    assert names_in(tmp_path) == []


async def test_a_download_that_is_cancelled_leaves_no_file(egress: Egress, server: Server, tmp_path: Path) -> None:
    task = asyncio.create_task(done(egress, download(tmp_path, Result(url=server.url("/stall")))))
    await server.stalled.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert names_in(tmp_path) == []


async def test_a_killed_process_leaves_only_the_part(egress: Egress, server: Server, tmp_path: Path) -> None:
    folder = tmp_path / TASK
    folder.mkdir()
    code = (
        "import os, sys, pathlib; from receiver.actions.folder import Part;"
        "part = Part(pathlib.Path(sys.argv[1])); part.open(None); part.write(b'a longer half'); os.kill(os.getpid(), 9)"
    )
    killed = await asyncio.create_subprocess_exec(sys.executable, "-c", code, str(folder / "x.mp4"))
    assert await killed.wait() == -signal.SIGKILL
    assert names_in(tmp_path) == [f"{TASK}/.x.mp4.part"]
    await done(egress, download(tmp_path, Result(url=server.give("/x.mp4", b"whole"))))
    assert names_in(tmp_path) == [f"{TASK}/x.mp4"]
    assert (folder / "x.mp4").read_bytes() == b"whole"


def test_two_writers_of_one_file_cannot_mix(tmp_path: Path) -> None:
    first, second = Part(tmp_path / "x"), Part(tmp_path / "x")
    first.open(None)
    first.write(b"first")
    with pytest.raises(OSError, match="another try is writing it") as caught:
        second.open(None)
    assert caught.value.errno == errno.EBUSY
    second.abandon()
    assert first.finish().size == 5
    assert (tmp_path / "x").read_bytes() == b"first"


def test_a_writer_that_was_given_up_does_nothing_more(tmp_path: Path) -> None:
    part = Part(tmp_path / "x")
    part.open(None)
    part.abandon()
    part.write(b"late")
    with pytest.raises(OSError, match="given up"):
        part.finish()
    unopened = Part(tmp_path / "y")
    unopened.abandon()
    unopened.open(None)
    assert names_in(tmp_path) == []


async def test_a_disk_that_is_nearly_full_is_not_filled(egress: Egress, server: Server, tmp_path: Path) -> None:
    perform = Downloader(egress, lambda: NOW, spare=1 << 62)
    with pytest.raises(ActionFailed) as caught:
        await perform(download(tmp_path, Result(url=server.give("/x.mp4", b"video"))))
    assert caught.value.reason == "result 0: the file could not be written: No space left on device"
    assert not caught.value.permanent
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
    assert told.reason == "the folder could not be made: File exists"


async def test_a_redirect_to_the_file_is_followed(egress: Egress, server: Server, tmp_path: Path) -> None:
    server.give("/new.png", b"pixels")
    url = server.give("/old.png", status="302 Found", Location="/new.png")
    answer = await done(egress, download(tmp_path, Result(url=url)))
    assert names_in(tmp_path) == [f"{TASK}/old.png"]
    assert content(answer.files[0]) == b"pixels"


async def test_a_circle_of_redirects_ends(egress: Egress, server: Server, tmp_path: Path) -> None:
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
