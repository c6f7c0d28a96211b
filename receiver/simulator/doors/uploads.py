"""Owns the doors files come in by: the upload of today, the old one, and the presigned one of LoRAs."""

import hashlib
import re
from dataclasses import dataclass

from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from receiver.simulator.answers import Document, Family, Refused, StorageRefused, envelope, media_envelope
from receiver.simulator.gate import Gate
from receiver.simulator.multipart import Form, read_form
from receiver.simulator.uploads import Uploads

MD5 = re.compile(r"[0-9a-fA-F]{32}")


@dataclass(frozen=True)
class UploadDoors:
    """The bodies of files are read here, so that the ledger does not keep them."""

    gate: Gate
    uploads: Uploads

    def routes(self) -> list[Route]:
        route = self.gate.route
        return [
            route("upload", "/openapi/v2/media/upload/binary", self.upload, Family.MEDIA, streams=True),
            route("old_upload", "/task/openapi/upload", self.old_upload, Family.V1, streams=True),
            route("lora_url", "/api/openapi/getLoraUploadUrl", self.lora_url, Family.V1),
            route("lora_put", "/files/api-lora-cn/{name}", self.lora_put, Family.STORAGE, method="PUT", streams=True),
        ]

    async def upload(self, request: HttpRequest, body: bytes) -> Document:
        """One part `file` in; out a link for models and a name for nodes (page "Upload media")."""
        form = await _form(request)
        if form is None or "file" not in form.files:
            raise Refused(1007, "file must not be null")
        filename, content = form.files["file"]
        if len(content) > self.uploads.limit:
            raise Refused(1008)
        now = self.gate.clock()
        upload = self.uploads.keep("openapi", filename, content, now)
        if upload is None:
            raise Refused(1007, "unsupported file type")
        return media_envelope(
            {
                "type": upload.type,
                "download_url": self.uploads.link(upload, now),
                "fileName": upload.name,
                "size": str(upload.size),
            }
        )

    async def old_upload(self, request: HttpRequest, body: bytes) -> Document:
        """`apiKey`, `file` and `fileType` in, a name for nodes out (page "Upload Resource")."""
        form = await _form(request)
        if form is None:
            raise Refused(808)
        fields = self.gate.checked(form.fields)
        filename, content = form.files.get("file", ("", b""))
        if not content:
            raise Refused(808)
        if len(content) > self.uploads.limit:
            raise Refused(809)
        upload = self.uploads.keep("api", filename, content, self.gate.clock())
        if upload is None:
            raise Refused(808)
        name = upload.sha256 if upload.type == "zip" else upload.name
        return envelope({"fileName": name, "fileType": fields.get("fileType") or "input"})

    async def lora_url(self, request: HttpRequest, body: bytes) -> Document:
        """A name and an MD5 in, where to PUT the bytes out (page "Get LoRA Upload URL")."""
        wanted = self.gate.v1(body, "loraName", "md5Hex")
        if not MD5.fullmatch(wanted["md5Hex"]):
            raise Refused(301, "md5Hex must be 32 hexadecimal digits")
        name, url = self.uploads.announce(wanted["loraName"], wanted["md5Hex"].lower(), self.gate.clock())
        return envelope({"fileName": name, **({"url": url} if url is not None else {})})

    async def lora_put(self, request: HttpRequest, body: bytes) -> Response:
        """The bytes of a LoRA, which may be too many to hold; this is the storage's door."""
        digest, size = hashlib.md5(), 0
        async for piece in request.stream():
            digest.update(piece)
            size += len(piece)
        lora = self.uploads.expects(request.url.path, request.query_params, self.gate.clock())
        if lora is None or digest.hexdigest() != lora.md5:
            raise StorageRefused(400, "BadDigest")
        lora.size = size
        return Response(headers={"ETag": f'"{lora.md5}"'})


async def _form(request: HttpRequest) -> Form | None:
    return read_form(request.headers.get("content-type", ""), await request.body())
