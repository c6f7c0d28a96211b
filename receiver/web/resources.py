"""What the provider offers beside tasks, over HTTP: uploads, models, apps, workflows, the account."""

import asyncio
import hashlib
import os
import re
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import IO, TypeVar

from msgspec.structs import asdict
from starlette.requests import Request
from starlette.responses import Response

from receiver.model.errors import Refused, StoreUnavailable, invalid, not_found
from receiver.model.rules import UPLOAD_KEPT, UPLOAD_LIMITS
from receiver.model.shown import shown
from receiver.model.tallies import BELIEVED, amount_of
from receiver.model.views import AccountView, AppView, FileNameView, ModelRow, PageView, QueueView, UploadView
from receiver.orders import upload as uploads
from receiver.orders.reading import NUMBER
from receiver.orders.signatures import HEAD, content_problem
from receiver.runninghub import catalogue
from receiver.runninghub.client import FileToSend
from receiver.runninghub.errors import ProviderError
from receiver.runninghub.shown import model_view
from receiver.server.service import Service
from receiver.web.answers import answer, refuse_without_key
from receiver.web.connection import let_go
from receiver.web.forms import BESIDE_LIMIT, Form, form_of

T = TypeVar("T")

CHUNK = 256 * 1024
NAME = re.compile(r"[^/\\\x00-\x1f\x7f]{1,200}")
NO_SUCH = frozenset({"380", "901"})
"""The provider's codes for a workflow or an app that it does not know."""


async def upload(service: Service, request: Request) -> Response:
    """A file as the body with its name as `name`, or in a form. The same bytes go to the provider once a day at most.

    With `as=lora` it is a LoRA, with `as=nodes` it goes the provider's older way; both give a file name for nodes.
    """
    name = request.query_params.get("name", "")
    purpose = request.query_params.get("as", "file")
    if purpose not in UPLOAD_LIMITS:
        raise invalid("as", f"expected one of {', '.join(UPLOAD_LIMITS)}")
    limit = UPLOAD_LIMITS[purpose]
    form = form_of(request)
    if name or form is None:
        _refuse_no_name(name)
    refuse_without_key(service.provider)
    problem = service.store.problem()
    if problem is not None:
        raise StoreUnavailable(problem, "nothing can be stored now")
    length = int(said) if (said := request.headers.get("content-length", "")).isdigit() else 0
    _refuse_too_long(length - (BESIDE_LIMIT if form else 0), limit)
    await _on_disk(service, _nothing, length)
    # A file without a name: whatever happens, nothing is left behind.
    with tempfile.TemporaryFile(dir=service.scratch) as kept:
        size, sha256 = await _keep(service, request, form, kept, limit)
        name = name or (form.name if form else "")
        _refuse_no_name(name)
        if size == 0:
            raise invalid("body", "the file is empty")
        if problem := content_problem(name, os.pread(kept.fileno(), HEAD, 0), size, purpose):
            raise invalid("body", f"{name} {problem}")
        file = FileToSend(name=name, size=size, open=lambda: _read(kept))
        if purpose == "nodes":
            return answer(FileNameView(file_name=await service.resources.upload_for_nodes(file)), 201)
        if purpose == "lora":
            md5 = await asyncio.to_thread(_md5, kept)
            return answer(FileNameView(file_name=await service.resources.upload_lora(file, md5)), 201)
        async with service.uploading.setdefault(sha256, asyncio.Lock()):
            made, new = await uploads.upload(service.store, service.resources, file, sha256, service.clock)
    view = shown(UploadView, made, download_url=made.url, expires_at=made.at + UPLOAD_KEPT)
    return answer(view, 201 if new else 200)


async def models(_: Service, request: Request) -> Response:
    """The catalogue, narrowed by `q`: a part of a name, endpoint, group or output, or a pattern with * and ?."""
    found = catalogue.search(request.query_params.get("q", ""))
    return answer(PageView(items=[shown(ModelRow, model) for model in found], next=None))


async def model(_: Service, request: Request) -> Response:
    return answer(model_view(catalogue.find(request.path_params["name"])))


async def app(service: Service, request: Request) -> Response:
    return answer(await _found(request, "AI app", service.resources.app))


async def styles(service: Service, request: Request) -> Response:
    """The styles a quick creation can be given; `type` is the provider's kind of style, usually 2."""
    kind = request.query_params.get("type", "2")
    if not kind.isascii() or not kind.isdigit() or len(kind) > 9:
        raise invalid("type", "expected a whole number, such as 2")
    found = await _found(request, "AI app", lambda app_id: service.resources.styles(app_id, int(kind)))
    return answer(PageView(items=found, next=None))


async def workflow(service: Service, request: Request) -> Response:
    nodes = await _found(request, "workflow", service.resources.workflow)
    return answer(AppView(id=request.path_params["id"], name="", nodes=nodes))


async def account(service: Service, _: Request) -> Response:
    found = await service.provider.account()
    service.meter.balance = {
        unit: float(amount)
        for unit, left in (("coins", found.coins), (found.currency or "money", found.money))
        if (amount := amount_of(left, most=BELIEVED)) is not None
    }
    return answer(AccountView(**asdict(found), queue=await _queue(service)))


async def _queue(service: Service) -> QueueView | None:
    """The endpoint is on no page of the provider's: an account is as good without it."""
    try:
        return await service.resources.queue()
    except ProviderError:
        return None


async def _found(request: Request, what: str, ask: Callable[[str], Awaitable[T]]) -> T:
    """What the provider says of the id in the path. Raises Refused (404) for what it does not know."""
    name: str = request.path_params["id"]
    if not NUMBER.fullmatch(name):
        raise not_found(what, name[:64])
    try:
        return await ask(name)
    except ProviderError as error:
        if error.code in NO_SUCH:
            raise not_found(what, name) from error
        raise


async def _keep(service: Service, request: Request, form: Form | None, kept: IO[bytes], limit: int) -> tuple[int, str]:
    """The bytes into a file. Returns its size and its SHA-256."""
    size, digest = 0, hashlib.sha256()
    chunks = form.file(request.stream()) if form else request.stream()
    async for chunk in chunks:
        size += len(chunk)
        _refuse_too_long(size, limit)
        digest.update(chunk)
        await _on_disk(service, partial(kept.write, chunk), len(chunk))
        let_go(request.scope, len(chunk))
    await _on_disk(service, kept.flush)
    return size, digest.hexdigest()


def _nothing() -> None:
    pass


async def _on_disk(service: Service, work: Callable[[], object], size: int = 0) -> None:
    """Does something to a file, on another thread, when there is room for `size` bytes. Raises StoreUnavailable."""

    def within() -> None:
        if service.room(service.scratch) < size:
            raise StoreUnavailable("disk_low", "there is no room on the disk for the file", retry_after=60)
        work()

    try:
        await asyncio.to_thread(within)
    except OSError as error:
        raise StoreUnavailable("disk_full", f"the file cannot be kept: {error.strerror}") from error


async def _read(kept: IO[bytes]) -> AsyncIterator[bytes]:
    place = 0
    while chunk := await asyncio.to_thread(os.pread, kept.fileno(), CHUNK, place):
        place += len(chunk)
        yield chunk


def _md5(kept: IO[bytes]) -> str:
    """What the provider knows a LoRA by."""
    kept.seek(0)
    return hashlib.file_digest(kept, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()  # type: ignore[arg-type]


def _refuse_no_name(name: str) -> None:
    if not NAME.fullmatch(name) or name in (".", ".."):
        raise invalid("name", "expected the file's name, without folders, such as one.jpg")


def _refuse_too_long(size: int, limit: int) -> None:
    if size > limit:
        raise Refused(413, "too_large", f"the file is larger than {limit // 2**20} MiB")
