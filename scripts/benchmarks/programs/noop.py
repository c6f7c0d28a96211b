"""Reads the body and answers: what the server costs without any work."""

from benchmarks.programs.serving import serve


async def forget(token: str, body: bytes) -> None:
    pass


serve(forget)
