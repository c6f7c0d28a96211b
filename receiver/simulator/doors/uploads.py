"""Owns the doors files come in by: the upload of today, the old one, and the presigned one of LoRAs."""

import hashlib
import re
from dataclasses import dataclass

from starlette.requests import Request as Asked
from starlette.responses import Response
from starlette.routing import Route

from receiver.simulator.answers import Family, Refused, envelope, media_envelope
from receiver.simulator.gate import Gate, is_text, said
from receiver.simulator.multipart import BadForm, Form, drain, read_form
from receiver.simulator.uploads import Incoming, Uploads

MD5 = re.compile(r"[0-9a-fA-F]{32}")


@dataclass(frozen=True)
class UploadDoors:
    """Bodies are read as they come, and no further than the limit kept."""

    gate: Gate
    uploads: Uploads

    def routes(self) -> list[Route]:
        route = self.gate.route
        return [
            route("upload", "/openapi/v2/media/upload/binary", self.upload, Family.MEDIA, streams=True),
            route("old_upload", "/task/openapi/upload", self.old_upload, Family.V1, streams=True),
            route("lora_url", "/api/openapi/getLoraUploadUrl", self.lora_url, Family.V1),
            route("lora_put", "/files/api-lora-cn/{name}", self.lora_put, Family.MEDIA, method="PUT", streams=True),
        ]

    async def upload(self, asked: Asked, body: bytes) -> Response:
        """One part `file` in; out a link for models and a name for nodes (page "Upload media")."""
        file, form = await self._file(asked)
        refused = self.gate.bearer(asked, Family.MEDIA)
        if refused is not None:
            return refused
        if form is None or "file" not in form.filenames:
            raise Refused(1007, "file must not be null")
        if file.too_large:
            raise Refused(1008)
        now = self.gate.clock()
        upload = self.uploads.keep("openapi", form.filenames["file"], file, now)
        if upload is None:
            raise Refused(1007, "unsupported file type")
        return said(
            media_envelope(
                {
                    "type": upload.type,
                    "download_url": self.uploads.link(upload, now),
                    "fileName": upload.name,
                    "size": str(upload.size),
                }
            )
        )

    async def old_upload(self, asked: Asked, body: bytes) -> Response:
        """`apiKey`, `file` and `fileType` in, a name for nodes out (page "Upload Resource")."""
        file, form = await self._file(asked)
        if form is None:
            raise Refused(808)
        key = form.fields.get("apiKey")
        if key is None or not is_text(key):
            raise Refused(301, "apiKey must not be blank")
        self.gate.check(key)
        if "file" not in form.filenames or not file.size:
            raise Refused(808)
        if file.too_large:
            raise Refused(809)
        upload = self.uploads.keep("api", form.filenames["file"], file, self.gate.clock())
        if upload is None:
            raise Refused(808)
        name = upload.sha256 if upload.type == "zip" else upload.name
        return said(envelope({"fileName": name, "fileType": form.fields.get("fileType") or "input"}))

    async def lora_url(self, asked: Asked, body: bytes) -> Response:
        """A name and an MD5 in, where to PUT the bytes out (page "Get LoRA Upload URL")."""
        wanted = self.gate.v1(body, "loraName", "md5Hex")
        if not MD5.fullmatch(wanted["md5Hex"]):
            raise Refused(301, "md5Hex must be 32 hexadecimal digits")
        name, url = self.uploads.announce(wanted["loraName"], wanted["md5Hex"].lower(), self.gate.clock())
        return said(envelope({"fileName": name, **({"url": url} if url is not None else {})}))

    async def lora_put(self, asked: Asked, body: bytes) -> Response:
        """The bytes of a LoRA; this is the storage's door, which speaks in HTTP statuses and XML."""
        given = asked.query_params
        digest, size = hashlib.md5(), 0
        async for piece in asked.stream():
            digest.update(piece)
            size += len(piece)
        try:
            now = self.gate.clock()
            lora = self.uploads.expects(asked.url.path, given.get("q-sign-time", ""), given.get("q-signature", ""), now)
        except Refused:
            return storage_error(403, "AccessDenied")
        if lora is None or digest.hexdigest() != lora.md5:
            return storage_error(400, "BadDigest")
        lora.size = size
        return Response(headers={"ETag": f'"{lora.md5}"'})

    async def _file(self, asked: Asked) -> tuple[Incoming, Form | None]:
        """The file of a form and its fields, None for a body that is no form. It is read to the end in any case."""
        file = self.uploads.incoming()

        def take(name: str, piece: bytes) -> None:
            if name == "file":
                file.take(piece)

        stream = asked.stream()
        try:
            return file, await read_form(asked.headers.get("content-type", ""), stream, take)
        except BadForm:
            await drain(stream)
            return file, None


def storage_error(status: int, code: str) -> Response:
    """How the storage behind the links says no."""
    body = f"<?xml version='1.0' encoding='utf-8' ?>\n<Error><Code>{code}</Code></Error>"
    return Response(body, status, media_type="application/xml")
