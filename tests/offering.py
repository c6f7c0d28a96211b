"""A provider of nothing but what stands beside tasks: uploads, prices, an app and a workflow."""

import hashlib

import httpx
import msgspec

from receiver.model.records import JsonObject

BEGINNINGS = {
    "png": b"\x89PNG\r\n\x1a\n",
    "jpg": b"\xff\xd8\xff\xe0",
    "webp": b"RIFF\x24\0\0\0WEBP",
    "mp3": b"ID3",
    "safetensors": b"\x02" + bytes(7) + b"{}",
}
"""How files begin, by the endings of their names."""


def beginning(name: str) -> bytes:
    return BEGINNINGS.get(name.rpartition(".")[2], b"")


APP = "1904136902449209346"
WORKFLOW = "1904136902449209347"
GRAPH = {
    "3": {"inputs": {"seed": 1, "model": ["4", 0]}, "class_type": "KSampler", "_meta": {"title": "The sampler"}},
    "6": {"inputs": {"text": "a lighthouse"}, "class_type": "CLIPTextEncode"},
    "9": {"inputs": {"image": "old.png"}, "class_type": "LoadImage"},
}
NODES = [
    {"nodeId": "3", "fieldName": "image", "fieldValue": "a.png", "fieldType": "IMAGE", "descriptionEn": "the face"},
    {"nodeId": "5", "fieldName": "size", "fieldValue": "1k", "fieldType": "LIST", "fieldData": '["1k", "2k"]'},
]


class Offering:
    """Remembers the paths it was asked at, and the files it was sent; `plan` answers the next request instead."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.files: list[tuple[str, bytes]] = []
        self.prices: list[JsonObject] = []
        self.plan: list[httpx.Response] = []

    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self._answer)

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        content = await request.aread()
        path = request.url.path
        self.asked.append(path)
        if self.plan:
            return self.plan.pop(0)
        if path == "/openapi/v2/media/upload/binary":
            return _json({"code": 0, "message": "success", "data": self._stored(request, content)})
        if path.startswith("/openapi/v2/price-preview/"):
            self.prices.append(msgspec.json.decode(content))
            return _json({"estimatedPrice": 0.35, "currency": "CNY", "priceText": "¥0.35", "isFreeThisCall": False})
        if path == "/api/webapp/apiCallDemo":
            known = request.url.params["webappId"] == APP
            data = {"webappName": "Faces", "nodeInfoList": NODES}
            return _json({"code": 0, "msg": "", "data": data} if known else {"code": 901, "msg": "WEBAPP_NOT_EXISTS"})
        if path == "/api/openapi/getJsonApiFormat":
            known = msgspec.json.decode(content)["workflowId"] == WORKFLOW
            data = {"prompt": msgspec.json.encode(GRAPH).decode()}
            return _json({"code": 0, "msg": "", "data": data} if known else {"code": 380, "msg": "WORKFLOW_NOT_EXISTS"})
        return _json({"code": 421, "msg": "TASK_QUEUE_MAXED", "data": None})

    def _stored(self, request: httpx.Request, content: bytes) -> dict[str, object]:
        boundary = request.headers["content-type"].partition("boundary=")[2].encode()
        head, _, rest = content.partition(b"\r\n\r\n")
        name = head.partition(b'filename="')[2].partition(b'"')[0].decode()
        file = rest.partition(b"\r\n--" + boundary)[0]
        self.files.append((name, file))
        stored = f"openapi/{hashlib.sha256(file).hexdigest()}.{name.rpartition('.')[2]}"
        link = f"https://files.test/{stored}?sign={len(self.files)}"
        return {"type": "image", "download_url": link, "fileName": stored, "size": str(len(file))}


def _json(document: object) -> httpx.Response:
    return httpx.Response(200, content=msgspec.json.encode(document))
