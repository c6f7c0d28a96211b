"""Files of our own: uploaded once a day, kept under what they are, and named in orders where a link is expected."""

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import msgspec
import pytest
from house import ADMIN_TOKEN, API_KEY, INPUT, MODEL, TLS, Clock
from offering import APP, WORKFLOW, Offering, beginning

from receiver.console import create_app
from receiver.model.records import JsonObject, rfc3339
from receiver.model.rules import UPLOAD_KEPT, UPLOAD_LIMIT
from receiver.model.views import AppView, PreviewView, UploadView
from receiver.orders.signatures import content_problem
from receiver.runninghub.catalogue import Param, Type, find
from receiver.runninghub.validation import file_problem
from receiver.server.service import Service
from receiver.server.settings import load_settings
from receiver.store import database_path

pytestmark = pytest.mark.story

PICTURE = beginning(".png") + bytes(range(256)) * 2000
UNKNOWN = "upload:" + "0" * 32


class Desk:
    """A server at whose provider nothing but files, prices, apps and workflows are to be had."""

    def __init__(self, directory: Path, key: str | None = API_KEY) -> None:
        self.clock = Clock()
        self.offering = Offering()
        given = {
            "RECEIVER_DATABASE": f"sqlite:///{directory / 'receiver.db'}",
            "RECEIVER_ADMIN_TOKEN": ADMIN_TOKEN,
            "RUNNINGHUB_BASE_URL": "http://provider.test",
            **({"RUNNINGHUB_API_KEY": key} if key else {}),
        }
        settings = load_settings(given, directory)
        transport = self.offering.transport()
        self.service = Service(settings, clock=self.clock, transport=transport, read_wait=0.0, tls=TLS)
        self.directory = database_path(settings.database).parent

    async def open(self) -> None:
        await self.service.start(loops=False)
        self.api = httpx.AsyncClient(
            transport=httpx.ASGITransport(create_app(self.service)),
            base_url="http://receiver.test/api",
            headers={"Authorization": f"Bearer {ADMIN_TOKEN}"},
        )

    async def close(self) -> None:
        await self.api.aclose()
        await self.service.close()

    async def upload(self, content: bytes = PICTURE, name: str = "one.png", status: int = 201) -> UploadView:
        answer = await self.api.post("/uploads", params={"name": name}, content=content)
        assert answer.status_code == status, answer.text
        return msgspec.json.decode(answer.content, type=UploadView)

    async def order(self, **order: object) -> httpx.Response:
        return await self.api.post("/tasks", json={"target": MODEL, **order})

    async def refusals(self, **order: object) -> dict[str, str]:
        answer = await self.order(**order)
        assert answer.status_code == 422, answer.text
        return {each["path"]: each["message"] for each in answer.json()["error"]["details"]}


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    desk = Desk(tmp_path)
    await desk.open()
    yield desk
    await desk.close()


def images(*links: str) -> JsonObject:
    return {**INPUT, "imageUrls": list(links)}


# ---------------------------------------------------------------- uploading


async def test_a_file_comes_to_the_provider_byte_for_byte_and_gets_an_id(desk: Desk) -> None:
    upload = await desk.upload()
    assert desk.offering.files == [("one.png", PICTURE)]
    sha256 = hashlib.sha256(PICTURE).hexdigest()
    assert upload == UploadView(
        id=f"upload:{sha256[:32]}",
        name="one.png",
        type="image",
        size=len(PICTURE),
        sha256=sha256,
        download_url=f"https://files.test/openapi/{sha256}.png?sign=1",
        file_name=f"openapi/{sha256}.png",
        expires_at=rfc3339(desk.clock.now + UPLOAD_KEPT) or "",
    )
    assert [path.name for path in desk.directory.iterdir() if "upload" in path.name] == []


async def test_the_same_bytes_go_there_once_a_day(desk: Desk) -> None:
    first = await desk.upload()
    desk.clock.now += UPLOAD_KEPT - 1
    assert await desk.upload(status=200) == first
    assert len(desk.offering.files) == 1
    desk.clock.now += 1
    later = await desk.upload()
    assert (later.id, len(desk.offering.files)) == (first.id, 2)
    assert later.download_url != first.download_url
    assert (await desk.upload(PICTURE + b"!")).id != first.id


async def test_the_same_bytes_at_the_same_time_go_there_once(desk: Desk) -> None:
    answers = await asyncio.gather(*(desk.api.post("/uploads?name=one.png", content=PICTURE) for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [200] * 4 + [201]
    assert len(desk.offering.files) == 1


async def test_an_upload_that_failed_is_told_and_not_remembered(desk: Desk) -> None:
    desk.offering.plan.append(httpx.Response(502, content=b"<html>"))
    answer = await desk.api.post("/uploads?name=one.png", content=PICTURE)
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "provider_error")
    await desk.upload()


async def test_a_file_is_refused_before_it_is_sent_when_it_can_never_do(desk: Desk) -> None:
    for query, content, status in [
        ("", PICTURE, 422),
        ("?name=", PICTURE, 422),
        ("?name=a/one.png", PICTURE, 422),
        ("?name=..", PICTURE, 422),
        ("?name=a%0Ab.png", PICTURE, 422),
        (f"?name={'a' * 201}", PICTURE, 422),
        ("?name=one.png", b"", 422),
    ]:
        assert (await desk.api.post(f"/uploads{query}", content=content)).status_code == status, query
    headers = {"content-length": str(UPLOAD_LIMIT + 1)}
    assert (await desk.api.post("/uploads?name=one.png", content=PICTURE, headers=headers)).status_code == 413
    assert desk.offering.asked == []


async def test_a_file_that_is_longer_than_it_said_is_cut_off(desk: Desk) -> None:
    async def endless() -> AsyncIterator[bytes]:
        chunk = bytes(2**20)
        while True:
            yield chunk

    answer = await desk.api.post("/uploads?name=one.png", content=endless())
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")
    assert desk.offering.asked == []


async def test_without_a_key_no_file_is_taken(tmp_path: Path) -> None:
    desk = Desk(tmp_path, key=None)
    await desk.open()
    answer = await desk.api.post("/uploads?name=one.png", content=PICTURE)
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "no_api_key")
    await desk.close()


async def test_on_a_full_disk_no_file_is_taken(tmp_path: Path) -> None:
    (tmp_path / "receiver.toml").write_text("[callbacks]\ndisk_floor = 1000000000000000000\n")
    desk = Desk(tmp_path)
    await desk.open()
    answer = await desk.api.post("/uploads?name=one.png", content=PICTURE)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "disk_low")
    assert desk.offering.asked == []
    await desk.close()


# ---------------------------------------------------------------- forms


async def test_a_file_that_comes_in_a_form_is_taken_out_of_it(desk: Desk) -> None:
    sent = await desk.api.post("/uploads", files={"file": ("eins zwei ü.png", PICTURE, "image/png")})
    assert (sent.status_code, sent.json()["name"], sent.json()["size"]) == (201, "eins zwei ü.png", len(PICTURE))
    assert desk.offering.files == [("eins zwei ü.png", PICTURE)]
    named = await desk.api.post("/uploads?name=other.png", files={"any": ("folder/one.png", PICTURE + b"!")})
    assert named.json()["name"] == "other.png"
    assert desk.offering.files[1] == ("other.png", PICTURE + b"!")


def form(*parts: bytes) -> bytes:
    return b"".join(b"--B\r\nContent-Disposition: form-data; " + part + b"\r\n" for part in parts) + b"--B--\r\n"


ONE = b'name="file"; filename="one.png"\r\n\r\n' + PICTURE
AS_FORM = {"content-type": "multipart/form-data; boundary=B"}


@pytest.mark.parametrize("length", [1, 7, 4096])
async def test_a_form_may_come_in_pieces_of_any_size(desk: Desk, length: int) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), length):
            yield body[start : start + length]

    short = beginning(".png") + b"\r\n--\r\n--A"
    body = form(b'name="file"; filename="one.png"\r\nContent-Type: image/png\r\n\r\n' + short)
    assert (await desk.api.post("/uploads", content=pieces(), headers=AS_FORM)).status_code == 201
    assert desk.offering.files == [("one.png", short)]


BAD_FORMS = {
    "no file": (form(b'name="file"\r\n\r\nx'), "file"),
    "a field beside it": (form(b'name="as"\r\n\r\nlora', ONE), "as"),
    "two files": (form(ONE, ONE), "file"),
    "nothing": (b"", "body"),
    "no part": (b"--B--\r\n", "body"),
    "no form": (PICTURE, "body"),
    "its end is missing": (form(ONE)[:-8], "body"),
    "an end of its own": (form(ONE) + bytes(100_000), "body"),
    "endless headers": (b"--B\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", "body"),
    "a file without a name": (form(b'name="file"; filename=""\r\n\r\nx'), "name"),
    "an empty file": (form(b'name="file"; filename="one.png"\r\n\r\n'), "body"),
}


@pytest.mark.parametrize("what", BAD_FORMS)
async def test_a_form_that_holds_no_file_or_more_than_one_is_refused_with_the_reason(desk: Desk, what: str) -> None:
    body, path = BAD_FORMS[what]
    answer = await desk.api.post("/uploads", content=body, headers=AS_FORM)
    assert (answer.status_code, answer.json()["error"]["details"][0]["path"]) == (422, path)
    assert desk.offering.asked == []


@pytest.mark.parametrize("kind", ["multipart/form-data", "multipart/mixed; boundary=B"])
async def test_a_form_that_nobody_can_take_apart_is_refused_with_the_right_command(desk: Desk, kind: str) -> None:
    answer = await desk.api.post("/uploads?name=one.png", content=form(ONE), headers={"content-type": kind})
    assert answer.status_code == 415
    assert "curl -F file=@one.jpg" in answer.json()["error"]["message"]


async def test_a_form_may_hold_as_much_as_a_file_may_and_no_more(desk: Desk) -> None:
    async def large(size: int) -> AsyncIterator[bytes]:
        whole = form(ONE[: -len(PICTURE)] + beginning(".png"))
        yield whole[: -len(b"\r\n--B--\r\n")]
        for _ in range(size // 2**20):
            yield bytes(2**20)
        yield b"\r\n--B--\r\n"

    less, more = UPLOAD_LIMIT - 2**20, UPLOAD_LIMIT
    assert (await desk.api.post("/uploads", content=large(less), headers=AS_FORM)).status_code == 201
    assert (await desk.api.post("/uploads", content=large(more), headers=AS_FORM)).status_code == 413


# ---------------------------------------------------------------- what a file is

ODD = {
    "a form in a body": ("one.png", form(ONE), "a multipart form"),
    "a web page": ("one.png", b"\n<!DOCTYPE html><html>", "a web page"),
    "an answer of an API": ("one.mp4", b'{"error": 1}', "JSON"),
    "another kind of picture": ("one.jpg", beginning(".webp"), "a WebP image; if that is meant"),
    "a picture that a shell has changed": ("one.png", PICTURE.replace(b"\r\n", b"\n"), "89 50 4e 47"),
    "a song for a film": ("one.mp4", beginning(".mp3"), "audio"),
    "text": ("one.WAV", b"not found", "text"),
    "a pointer": ("style.safetensors", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "no archive": ("all.zip", b"Rar!\x1a\x07", "52 61 72 21"),
    "a cut model": ("style.safetensors", b"\xff\xff" + bytes(6) + b'{"a', "is cut off"),
}


@pytest.mark.parametrize("what", ODD)
async def test_a_file_that_is_not_what_its_name_says_is_refused_with_what_it_is(desk: Desk, what: str) -> None:
    name, content, told = ODD[what]
    answer = await desk.api.post("/uploads", params={"name": name}, content=content)
    assert (answer.status_code, answer.json()["error"]["details"][0]["path"]) == (422, "body")
    assert told in answer.json()["error"]["message"]
    assert desk.offering.asked == []


async def test_a_lora_is_safetensors_whatever_it_is_called(desk: Desk) -> None:
    answer = await desk.api.post("/uploads?name=my-style&as=lora", content=PICTURE)
    assert (answer.status_code, desk.offering.asked) == (422, [])
    assert "is no safetensors file but a PNG image" in answer.json()["error"]["message"]


SOUND = {
    "png": PICTURE,
    "jpeg": b"\xff\xd8\xff\xe1",
    "JPG": b"\xff\xd8\xff\xdb",
    "webp": beginning(".webp"),
    "gif": b"GIF89a",
    "tif": b"MM\0*",
    "bmp": b"BM\x36\0",
    "avif": b"\0\0\0\x20ftypavif",
    "mp4": b"\0\0\0\x20ftypisom",
    "mov": b"\0\0\0\x08wide",
    "m4a": b"\0\0\0\x20ftypM4A ",
    "webm": b"\x1aE\xdf\xa3",
    "avi": b"RIFF\0\0\0\0AVI LIST",
    "wav": b"RIFF\0\0\0\0WAVEfmt ",
    "mp3": b"\xff\xfb\x90",
    "aac": b"\xff\xf1",
    "flac": b"ID3\4",
    "ogg": b"OggS",
    "zip": b"PK\5\6",
    "safetensors": beginning(".safetensors"),
    "glb": b"anything",
    "txt": b"<html>",
}


@pytest.mark.parametrize("ending", SOUND)
def test_a_file_that_is_what_its_name_says_passes_and_so_does_one_of_which_nobody_can_tell(ending: str) -> None:
    assert content_problem(f"one.{ending}", SOUND[ending], 2**20) is None


# ---------------------------------------------------------------- orders that name uploads


async def test_a_model_gets_the_link_of_an_upload(desk: Desk) -> None:
    upload = await desk.upload()
    answer = await desk.order(input=images("https://example.com/one.jpg", upload.id))
    assert answer.status_code == 202
    assert answer.json()["input"]["imageUrls"] == ["https://example.com/one.jpg", upload.download_url]


async def test_a_prompt_that_looks_like_an_upload_stays_what_it_is(desk: Desk) -> None:
    upload = await desk.upload()
    answer = await desk.order(input={**INPUT, "prompt": upload.id})
    assert answer.json()["input"]["prompt"] == upload.id


@pytest.mark.parametrize(("kind", "target"), [("workflow", WORKFLOW), ("app", APP)])
async def test_a_node_gets_the_file_name_of_an_upload(desk: Desk, kind: str, target: str) -> None:
    upload = await desk.upload()
    nodes = [{"nodeId": "3", "fieldName": "image", "fieldValue": value} for value in (upload.id, "upload: this", 1)]
    answer = await desk.order(kind=kind, target=target, input={"nodeInfoList": nodes})
    assert answer.status_code == 202
    given = [node["fieldValue"] for node in answer.json()["input"]["nodeInfoList"]]
    assert given == [upload.file_name, "upload: this", 1]


@pytest.mark.parametrize("kind", ["workflow", "app"])
async def test_an_order_that_is_posted_makes_the_server_read_no_file(desk: Desk, kind: str) -> None:
    nodes = [{"nodeId": "3", "fieldName": "image", "fieldValue": text} for text in ("@/etc/hostname", "@receiver.db")]
    answer = await desk.order(kind=kind, target=WORKFLOW if kind == "workflow" else APP, input={"nodeInfoList": nodes})
    assert (answer.status_code, answer.json()["input"]["nodeInfoList"]) == (202, nodes)
    assert "POST /api/uploads" in (await desk.refusals(input=images("@/etc/hostname")))["input.imageUrls[0]"]
    assert desk.offering.files == []


async def test_an_unknown_or_old_upload_is_refused_with_its_path(desk: Desk) -> None:
    old = (await desk.upload()).id
    desk.clock.now += UPLOAD_KEPT
    for name in (old, UNKNOWN, "upload:mine"):
        assert list(await desk.refusals(input=images(name))) == ["input.imageUrls[0]"]
    nodes = [{"nodeId": "3", "fieldName": "image", "fieldValue": old}]
    found = await desk.refusals(kind="app", target=APP, input={"nodeInfoList": nodes})
    assert list(found) == ["input.nodeInfoList[0].fieldValue"]
    await desk.upload()
    assert (await desk.order(input=images(old))).status_code == 202


async def test_a_file_of_the_wrong_kind_is_refused_unless_nothing_is_checked(desk: Desk) -> None:
    song = await desk.upload(b"ID3", "song.mp3")
    found = await desk.refusals(input=images(song.id))
    assert "song.mp3" in found["input.imageUrls[0]"]
    assert (await desk.order(input=images(song.id), validate=False)).status_code == 202


async def test_a_path_of_the_command_line_is_not_sent_to_anybody(desk: Desk) -> None:
    assert "/api/uploads" in (await desk.refusals(input=images("@one.png")))["input.imageUrls[0]"]


def data_uri(content: bytes = PICTURE, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


async def test_a_data_uri_is_uploaded_once_and_not_kept(desk: Desk) -> None:
    many = images(data_uri(), data_uri())
    first = (await desk.order(input=many)).json()
    link = next(iter(first["uploads"].values()))
    assert first["input"]["imageUrls"] == [link, link]
    assert len(desk.offering.files) == 1
    again = await desk.order(input=many)
    assert (again.status_code, len(desk.offering.files)) == (202, 1)
    desk.clock.now += UPLOAD_KEPT
    assert (await desk.order(input=many)).json()["input"]["imageUrls"] != first["input"]["imageUrls"]


async def test_the_same_order_with_a_data_uri_is_the_same_task_and_uploads_nothing_again(desk: Desk) -> None:
    keyed = {"headers": {"Idempotency-Key": "k"}, "json": {"target": MODEL, "input": images(data_uri())}}
    first = (await desk.api.post("/tasks", **keyed)).json()  # type: ignore[arg-type]
    desk.clock.now += UPLOAD_KEPT
    second = await desk.api.post("/tasks", **keyed)  # type: ignore[arg-type]
    assert (second.status_code, second.json()["id"], len(desk.offering.files)) == (200, first["id"], 1)


@pytest.mark.parametrize("uri", ["data:image/png;base64,####", data_uri(b"<html>not a picture")])
async def test_a_data_uri_that_holds_no_sound_file_is_refused_by_name(desk: Desk, uri: str) -> None:
    assert list(await desk.refusals(input=images(uri))) == ["input.imageUrls[0]"]
    assert desk.offering.files == []


async def test_nothing_is_uploaded_for_an_order_that_is_refused(desk: Desk) -> None:
    assert await desk.refusals(input={**images(data_uri()), "resolution": "1"})
    assert desk.offering.files == []


async def test_an_unchecked_order_gets_links_wherever_it_names_uploads(desk: Desk) -> None:
    upload = await desk.upload()
    order = {"target": "newer/than-any-catalogue", "validate": False}
    answer = await desk.order(**order, input={"first": upload.id, "all": [upload.id, 1, "@x"], "text": "upload:x"})
    link = upload.download_url
    assert answer.json()["input"] == {"first": link, "all": [link, 1, "@x"], "text": "upload:x"}


async def test_the_same_order_is_the_same_task_though_the_link_has_changed(desk: Desk) -> None:
    upload = await desk.upload()
    keyed = {"headers": {"Idempotency-Key": "k"}, "json": {"target": MODEL, "input": images(upload.id)}}
    first = await desk.api.post("/tasks", **keyed)  # type: ignore[arg-type]
    desk.clock.now += UPLOAD_KEPT
    await desk.upload()
    again = await desk.api.post("/tasks", **keyed)  # type: ignore[arg-type]
    assert (first.status_code, again.status_code) == (202, 200)
    assert again.json()["id"] == first.json()["id"]


# ---------------------------------------------------------------- previews, apps, workflows


async def test_a_preview_shows_the_order_and_its_price_and_orders_nothing(desk: Desk) -> None:
    upload = await desk.upload()
    answer = await desk.api.post("/previews", json={"target": MODEL, "input": images(upload.id)})
    preview = msgspec.json.decode(answer.content, type=PreviewView)
    assert (answer.status_code, preview.kind, preview.target) == (200, "model", MODEL)
    assert preview.input == images(upload.download_url)
    assert desk.offering.prices == [preview.input]
    assert preview.price is not None
    assert (preview.price.amount, preview.price.text, preview.price_problem) == ("0.35", "¥0.35", None)
    assert (await desk.api.get("/tasks")).json()["items"] == []


async def test_a_preview_without_a_price_says_why(desk: Desk) -> None:
    desk.offering.plan += [httpx.Response(404, content=b"<html>")]
    answer = await desk.api.post("/previews", json={"target": MODEL, "input": INPUT})
    assert (answer.status_code, answer.json()["price"]) == (200, None)
    assert "HTTP 404" in answer.json()["price_problem"]
    answer = await desk.api.post("/previews", json={"kind": "app", "target": APP, "input": {}})
    assert "models alone" in answer.json()["price_problem"]


async def test_a_preview_of_a_bad_order_is_refused_like_the_order(desk: Desk) -> None:
    answer = await desk.api.post("/previews", json={"target": MODEL, "input": {**INPUT, "resolution": "1"}})
    assert answer.status_code == 422
    assert desk.offering.asked == []


async def test_an_app_and_a_workflow_show_their_fields(desk: Desk) -> None:
    app = msgspec.json.decode((await desk.api.get(f"/apps/{APP}")).content, type=AppView)
    assert (app.name, [(node.node, node.field, node.options) for node in app.nodes]) == (
        "Faces",
        [("3", "image", []), ("5", "size", ["1k", "2k"])],
    )
    workflow = msgspec.json.decode((await desk.api.get(f"/workflows/{WORKFLOW}")).content, type=AppView)
    assert [f"{node.node}.{node.field}" for node in workflow.nodes] == ["3.seed", "6.text", "9.image"]


@pytest.mark.parametrize("path", [f"/apps/{WORKFLOW}", f"/workflows/{APP}", "/apps/abc", "/workflows/1.5"])
async def test_an_unknown_app_or_workflow_is_not_found(desk: Desk, path: str) -> None:
    assert (await desk.api.get(path)).status_code == 404


# ---------------------------------------------------------------- judging files


def test_a_file_is_judged_by_its_ending_and_its_size() -> None:
    param = Param(name="image", type=Type.STRING, media="image", accept=("jpg", "PNG"), max_size_mb=1)
    for name in ("a.jpg", "a.JPEG", "a.b.png"):
        assert file_problem(param, name, 2**20) is None
    assert file_problem(param, "a.png", 2**20 + 2**18) == "expected at most 1 MB, got 1.2 MB"
    for name in ("a.webp", "a.mp4", "png", "a.txt", ""):
        assert (file_problem(param, name, 1) or "").startswith("expected an image (jpg, PNG), got")
    assert file_problem(param, "a.png", 0) == "a.png is empty"
    anything = Param(name="clip", type=Type.STRING, media="video")
    assert file_problem(anything, "a.mov", 1) is None
    assert file_problem(anything, "a.png", 1) is not None


def test_the_model_of_these_tests_takes_images() -> None:
    assert next(param.media for param in find(MODEL).model.params if param.name == "imageUrls") == "image"
