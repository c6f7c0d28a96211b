"""A saved file over HTTP, and the client that fetches it: in ranges, resumed, verified, and nothing beside it."""

import base64
import hashlib
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import msgspec
import pytest
from house import House, open_house
from test_cli import Operator
from test_client import answered, detail

from receiver.actions import Done, Work
from receiver.cli.download import file_names
from receiver.client import ApiError, Unreachable
from receiver.model.records import SavedFile
from receiver.model.views import TaskDetail

pytestmark = pytest.mark.story

CONTENT = bytes(range(256)) * 40
DIGEST = hashlib.sha256(CONTENT)
NAMED = {"etag": f'"{DIGEST.hexdigest()}"', "repr-digest": f"sha-256=:{base64.b64encode(DIGEST.digest()).decode()}:"}


class Kept:
    """A house whose download writes what a test wants saved."""

    def __init__(self, house: House, folder: Path) -> None:
        self.house, self.folder = house, folder
        self.name = "one.png"
        self.place: Path | None = None
        house.effect = self._save

    async def _save(self, work: Work) -> Done:
        place = self.place or self.folder / work.task_id / self.name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(CONTENT)
        file = SavedFile(result=0, path=str(place), sha256=DIGEST.hexdigest(), size=len(CONTENT))
        return Done(detail={}, files=(file,))

    async def task(self) -> str:
        made = await self.house.submit()
        await self.house.advance(60)
        return made

    async def get(self, task: str, n: object = 0, **headers: str) -> httpx.Response:
        return await self.house.api.get(
            f"/tasks/{task}/files/{n}", headers={k.replace("_", "-"): v for k, v in headers.items()}
        )


@pytest.fixture
async def kept(tmp_path: Path) -> AsyncIterator[Kept]:
    folder = tmp_path / "results"
    toml = f'[[actions]]\nname = "keep-files"\nkind = "download"\ndirectory = "{folder}"\n'
    async with open_house(tmp_path, toml) as house:
        yield Kept(house, folder)


async def test_a_saved_file_is_given_with_its_digest_and_as_nothing_but_data(kept: Kept) -> None:
    task = await kept.task()
    answer = await kept.get(task[:13])
    assert (answer.status_code, answer.content) == (200, CONTENT)
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["content-disposition"] == 'attachment; filename="one.png"'
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert {name: answer.headers[name] for name in NAMED} == NAMED
    head = await kept.house.api.head(f"/tasks/{task}/files/0")
    assert (head.status_code, head.headers["content-length"], head.content) == (200, str(len(CONTENT)), b"")
    assert (await kept.house.http.get(f"/api/tasks/{task}/files/0")).status_code == 401


async def test_a_part_of_a_saved_file_is_given_while_it_is_the_same_file(kept: Kept) -> None:
    task = await kept.task()
    part = await kept.get(task, range="bytes=100-", if_range=NAMED["etag"])
    assert (part.status_code, part.content) == (206, CONTENT[100:])
    whole = await kept.get(task, range="bytes=100-", if_range='"another"')
    assert (whole.status_code, whole.content) == (200, CONTENT)
    assert (await kept.get(task, range=f"bytes={len(CONTENT)}-")).status_code == 416


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *((name, "application/octet-stream") for name in ("a.html", "a.svg", "a", 'a"; x.js')),
        *(("a.mp4", "video/mp4"), ("a.txt", "text/plain")),
    ],
)
async def test_no_browser_takes_a_saved_file_for_a_page(kept: Kept, name: str, kind: str) -> None:
    kept.name = name
    answer = await kept.get(await kept.task())
    assert answer.headers["content-type"].partition(";")[0] == kind
    assert answer.headers["content-disposition"].startswith("attachment; ")
    assert "sandbox" in answer.headers["content-security-policy"]


async def test_nothing_outside_the_folders_of_downloads_is_given(kept: Kept, tmp_path: Path) -> None:
    kept.place = tmp_path / "receiver.toml.copy"
    outside = await kept.task()
    assert (await kept.get(outside)).json()["error"]["code"] == "file_gone"
    kept.place = kept.folder / "task" / "link.png"
    led = await kept.task()
    kept.place.unlink()
    kept.place.symlink_to(tmp_path / "receiver.toml.copy")
    assert (await kept.get(led)).status_code == 404


async def test_a_file_that_is_not_there_is_explained(kept: Kept) -> None:
    task = await kept.task()
    for n, told in ((1, "has 1"), ("x", "there is no result x"), ("-1", "there is no result"), ("9" * 30, "no result")):
        answer = await kept.get(task, n)
        assert answer.status_code == 404
        assert told in answer.json()["error"]["message"]
    (kept.folder / task / "one.png").write_bytes(b"edited")
    assert (await kept.get(task)).json()["error"]["code"] == "file_gone"
    waiting = await kept.house.submit()
    assert "the task is queued" in (await kept.get(waiting)).json()["error"]["message"]


# ---------------------------------------------------------------- the client


class Door:
    """A server that hangs up after so many bytes of each answer, and counts what it was asked for."""

    def __init__(self, *, cut: int | None = None, content: bytes = CONTENT, etag: str = NAMED["etag"]) -> None:
        self.cut, self.content, self.etag = cut, content, etag
        self.ranges: list[str | None] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.method == "HEAD":
            return httpx.Response(200, headers=NAMED | {"content-length": str(len(CONTENT))})
        asked = request.headers.get("range")
        self.ranges.append(asked)
        same = request.headers.get("if-range") == self.etag
        start = int(re.findall(r"\d+", asked)[0]) if asked and same else 0
        return httpx.Response(206 if start else 200, content=self._body(start))

    def _body(self, start: int) -> Iterator[bytes]:
        end = len(self.content) if self.cut is None else start + self.cut
        yield self.content[start:end]
        if end < len(self.content):
            raise httpx.RemoteProtocolError("peer closed connection")


def test_a_file_is_fetched_and_is_not_fetched_again(tmp_path: Path) -> None:
    door, seen = Door(), list[tuple[int, int | None]]()
    with answered(door) as client:
        saved = client.download("t", 0, tmp_path / "one.png", lambda done, total: seen.append((done, total)))
        again = client.download("t", 0, tmp_path / "one.png")
    assert (saved.path.read_bytes(), saved.new, again.new) == (CONTENT, True, False)
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert door.ranges == [None]
    assert [path.name for path in tmp_path.iterdir()] == ["one.png"]


def test_what_breaks_off_is_continued_in_the_same_call(tmp_path: Path) -> None:
    door, pauses = Door(cut=4000), list[float]()
    with answered(door) as client:
        client.download("t", 0, tmp_path / "one.png", pause=pauses.append)
    assert (tmp_path / "one.png").read_bytes() == CONTENT
    assert door.ranges == [None, "bytes=4000-", "bytes=8000-"]
    assert len(pauses) == 2


def test_what_breaks_off_for_good_is_continued_by_the_next_call(tmp_path: Path) -> None:
    with answered(Door(cut=4000)) as client, pytest.raises(Unreachable):
        client.download("t", 0, tmp_path / "one.png", patience=0)
    assert not (tmp_path / "one.png").exists()
    door = Door()
    with answered(door) as client:
        client.download("t", 0, tmp_path / "one.png")
    assert door.ranges == ["bytes=4000-"]
    assert (tmp_path / "one.png").read_bytes() == CONTENT


def test_a_file_that_is_not_what_was_saved_gets_no_name(tmp_path: Path) -> None:
    with answered(Door(content=CONTENT[::-1])) as client, pytest.raises(ApiError) as damaged:
        client.download("t", 0, tmp_path / "one.png")
    assert damaged.value.code == "damaged"
    assert list(tmp_path.iterdir()) == []


def test_another_file_of_that_name_is_replaced_only_when_asked(tmp_path: Path) -> None:
    (tmp_path / "one.png").write_bytes(b"mine")
    with answered(Door()) as client:
        with pytest.raises(FileExistsError):
            client.download("t", 0, tmp_path / "one.png")
        assert (tmp_path / "one.png").read_bytes() == b"mine"
        client.download("t", 0, tmp_path / "one.png", overwrite=True)
    assert (tmp_path / "one.png").read_bytes() == CONTENT


def test_an_answer_that_promises_nothing_is_no_receiver_s(tmp_path: Path) -> None:
    with answered(lambda _: httpx.Response(200)) as client, pytest.raises(ApiError, match="is it a receiver"):
        client.download("t", 0, tmp_path / "one.png")


# ---------------------------------------------------------------- the command


def test_files_get_the_names_that_the_server_gave_them_and_clashing_ones_their_numbers() -> None:
    saved = [{"file": "results/t/a.png"}, {"file": None}, {"file": "results/t/x/A.PNG"}, {"file": "r/..%2f:b"}]
    task = msgspec.json.decode(detail(results=saved), type=TaskDetail)
    assert file_names(task) == {0: "0-a.png", 2: "2-A.PNG", 3: "%2f_b"}


def test_a_task_without_saved_files_is_told_apart_from_one_that_has_not_ended(operator: Operator) -> None:
    told = operator("download", operator.ended(), code=1).stderr
    assert "no file of this task is saved on the server" in told
    assert "there is no task" in operator("download", "nope", code=3).stderr
