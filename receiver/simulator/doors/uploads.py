"""Owns the doors files come in by: the upload of today, the old one, and the presigned one of LoRAs."""

import hashlib
import re

from starlette.requests import Request as HttpRequest
from starlette.responses import Response

from receiver.simulator.answers import Document, Family, Refused, StorageRefused, envelope, media_envelope
from receiver.simulator.gate import Door, checked, v1
from receiver.simulator.multipart import Form, read_form
from receiver.simulator.provider import Provider
from receiver.simulator.uploads import kind_of

MD5 = re.compile(r"[0-9a-fA-F]{32}")


async def new_upload(provider: Provider, request: HttpRequest, body: bytes) -> Document:
    """One part `file` in; out a link for models and a name for nodes (page "Upload media")."""
    form = await _form(request)
    if form is None or "file" not in form.files:
        raise Refused(1007, "file must not be null")
    filename, content = form.files["file"]
    if len(content) > provider.uploads.limit:
        raise Refused(1008)
    now = provider.clock()
    upload = provider.uploads.keep("openapi", filename, content, now)
    if upload is None:
        raise Refused(1007, "unsupported file type")
    return media_envelope(
        {
            "type": kind_of(upload.name),
            "download_url": provider.uploads.link(upload, now),
            "fileName": upload.name,
            "size": str(upload.size),
        }
    )


async def old_upload(provider: Provider, request: HttpRequest, body: bytes) -> Document:
    """`apiKey`, `file` and `fileType` in, a name for nodes out (page "Upload Resource")."""
    form = await _form(request)
    if form is None:
        raise Refused(808)
    fields = checked(provider, form.fields)
    filename, content = form.files.get("file", ("", b""))
    if not content:
        raise Refused(808)
    if len(content) > provider.uploads.limit:
        raise Refused(809)
    upload = provider.uploads.keep("api", filename, content, provider.clock())
    if upload is None:
        raise Refused(808)
    name = upload.digest if kind_of(upload.name) == "zip" else upload.name
    return envelope({"fileName": name, "fileType": fields.get("fileType") or "input"})


async def lora_url(provider: Provider, request: HttpRequest, body: bytes) -> Document:
    """A name and an MD5 in, where to PUT the bytes out (page "Get LoRA Upload URL")."""
    wanted = v1(provider, body, "loraName", "md5Hex")
    if not MD5.fullmatch(wanted["md5Hex"]):
        raise Refused(301, "md5Hex must be 32 hexadecimal digits")
    name, url = provider.uploads.announce(wanted["loraName"], wanted["md5Hex"].lower(), provider.clock())
    return envelope({"fileName": name, **({"url": url} if url is not None else {})})


async def lora_put(provider: Provider, request: HttpRequest, body: bytes) -> Response:
    """The bytes of a LoRA, which may be too many to hold; this is the storage's door."""
    digest, size = hashlib.md5(), 0
    async for piece in request.stream():
        digest.update(piece)
        size += len(piece)
    lora = provider.uploads.expects(request.url.path, request.query_params, provider.clock())
    if lora is None or digest.hexdigest() != lora.md5:
        raise StorageRefused(400, "BadDigest")
    lora.size = size
    return Response(headers={"ETag": f'"{lora.md5}"'})


async def _form(request: HttpRequest) -> Form | None:
    return read_form(request.headers.get("content-type", ""), await request.body())


DOORS = (
    Door("upload", "/openapi/v2/media/upload/binary", new_upload, Family.MEDIA, streams=True),
    Door("old_upload", "/task/openapi/upload", old_upload, Family.V1, streams=True),
    Door("lora_url", "/api/openapi/getLoraUploadUrl", lora_url, Family.V1),
    Door("lora_put", "/files/api-lora-cn/{name}", lora_put, Family.STORAGE, "PUT", streams=True),
)
"""The bodies of files are read by the endpoints, so that nobody keeps them among the requests."""
