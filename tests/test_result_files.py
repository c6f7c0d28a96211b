"""Result files and uploads: answers that storages and proxies really give, and the room that callbacks keep."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from house import open_house
from storage import Storage
from test_download import NOW, PNG, content, done, download, failure
from test_uploads import PICTURE, Desk

from receiver.actions import ActionFailed
from receiver.actions.download.partial import free_room
from receiver.actions.kinds import performers
from receiver.egress.client import Egress
from receiver.model import rules
from receiver.model.definitions import ActionKind
from receiver.model.records import Result

pytestmark = pytest.mark.story
MIB = 2**20


@pytest.fixture
async def server() -> AsyncIterator[Storage]:
    async with Storage().running() as running:
        yield running


@pytest.fixture
async def egress() -> AsyncIterator[Egress]:
    egress = Egress()
    yield egress
    await egress.aclose()


# ---------------------------------------------------------------- answers


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        ("203 Non-Authoritative Information", {}),
        ("206 Partial Content", {"Content_Range": f"bytes 0-{len(PNG) - 1}/{len(PNG)}"}),
        ("200 OK", {"Content_Encoding": "aws-chunked"}),
        ("200 OK", {"Content_Encoding": "gzip"}),
    ],
)
async def test_all_of_a_file_is_taken_however_it_is_announced(
    egress: Egress, server: Storage, tmp_path: Path, status: str, headers: dict[str, str]
) -> None:
    url = server.give("/x.png", PNG, status=status, **headers)
    assert content((await done(egress, download(tmp_path, Result(url=url, type="png")))).files[0]) == PNG


@pytest.mark.parametrize(
    "place", ["", f"bytes 0-{len(PNG) - 1}/99", f"bytes 1-{len(PNG)}/{len(PNG) + 1}", "bytes 0-9/*"]
)
async def test_a_part_that_nobody_asked_for_is_no_file_and_is_asked_for_again(
    egress: Egress, server: Storage, tmp_path: Path, place: str
) -> None:
    url = server.give("/x.png", PNG, status="206 Partial Content", Content_Range=place)
    told = await failure(egress, download(tmp_path, Result(url=url, type="png")))
    assert (told.permanent, told.expired) == (False, False)
    server.give("/x.png", PNG)
    assert content((await done(egress, download(tmp_path, Result(url=url, type="png")))).files[0]) == PNG


async def test_a_mesh_of_text_is_saved_though_its_server_calls_it_a_page(
    egress: Egress, server: Storage, tmp_path: Path
) -> None:
    body = b"# Blender 4\no cube\nv 0 0 0\n"
    url = server.give("/x.obj", body, Content_Type="text/html")
    assert content((await done(egress, download(tmp_path, Result(url=url, type="obj")))).files[0]) == body


# ---------------------------------------------------------------- room on the disk


def floor_above(directory: Path) -> int:
    """A floor of the door's that is kept yet, while there is no room above it for files."""
    return int(shutil.disk_usage(directory).free * 0.7)


async def test_a_download_waits_while_it_would_take_the_room_that_callbacks_need(
    egress: Egress, server: Storage, tmp_path: Path
) -> None:
    url = server.give("/x.png", PNG)
    floor = floor_above(tmp_path)
    save = performers(egress, clock=lambda: NOW, room=lambda folder: free_room(folder, tmp_path, floor))
    with pytest.raises(ActionFailed, match="free disk space") as caught:
        await save[ActionKind.DOWNLOAD](download(tmp_path, Result(url=url)))
    assert (caught.value.permanent, caught.value.category.accuses_target) == (False, False)
    floor //= 2
    assert await save[ActionKind.DOWNLOAD](download(tmp_path, Result(url=url)))


def test_the_floor_of_the_ledgers_disk_does_not_count_on_another(tmp_path: Path) -> None:
    other = Path("/dev/shm")
    free = shutil.disk_usage(other).free
    assert free_room(other, tmp_path, 2**60) == pytest.approx(free - rules.FILES_SPARE, abs=64 * MIB)
    assert free_room(tmp_path, tmp_path, 2**60) < 0


async def test_an_upload_keeps_the_floor_while_its_bytes_arrive_and_the_door_stays_open(tmp_path: Path) -> None:
    room = shutil.disk_usage(tmp_path).free - 40 * MIB
    (tmp_path / "receiver.toml").write_text(f"[callbacks]\ndisk_floor = {room // rules.FILES_FLOOR}\n")
    desk = Desk(tmp_path)
    await desk.open()
    sent = 0

    async def many() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(90):
            sent += MIB
            yield bytes(MIB)

    answer = await desk.api.post("/uploads?name=one.bin", content=many())
    assert (answer.status_code, answer.json()["error"]["code"], answer.headers["retry-after"]) == (
        503,
        "disk_low",
        "60",
    )
    assert 0 < sent < 80 * MIB
    told = await desk.api.post("/uploads?name=one.bin", content=b"x", headers={"content-length": str(90 * MIB)})
    assert told.status_code == 503
    assert (desk.service.problems(), desk.offering.files) == ([], [])
    assert (await desk.upload(PICTURE)).size == len(PICTURE)
    await desk.close()


async def test_a_disk_without_room_for_files_is_an_alert_until_there_is_some(tmp_path: Path) -> None:
    async with open_house(tmp_path, f"[callbacks]\ndisk_floor = {floor_above(tmp_path)}\n") as house:
        await house.service.housekeep()
        await house.service.housekeep()
        assert await house.alerts() == ["disk_low"]
        assert house.service.problems() == []
        await house.close()
        (tmp_path / "receiver.toml").write_text("")
        await house.open()
        await house.service.housekeep()
        assert await house.alerts() == []
