"""The HTTP service under load: what many clients at once send it, with damaged, slow and oversized requests among them.

Of every twenty requests two are damaged, one is sent a byte at a time and one is larger than the limit; the others are
decoded and encoded in turns and must come back right: decoded pixels within a level of the codec's, encoded files equal to
the codec's. What the service refuses with 503 is sent again when it says so.
"""

from __future__ import annotations

import asyncio
import io
import struct
import zlib
from collections.abc import AsyncIterator
from typing import NamedTuple

import httpx
import numpy as np
from PIL import Image

from jnd_jax import bitstream
from jnd_jax.image_codec import ImageCodec

QUALITIES = (20, 50, 80)
ATTEMPTS = 1000


class Case(NamedTuple):
    """A file to decode, the image to encode as a PNG, and what the codec makes of them."""

    quality: int
    png: bytes
    file: bytes
    pixels: np.ndarray


class Outcome(NamedTuple):
    """What became of one request: its kind, every status it was answered with, and whether the last was right."""

    kind: str
    statuses: tuple[int, ...]
    right: bool


def cases(codec: ImageCodec, image: np.ndarray) -> list[Case]:
    """One case for each of QUALITIES of an (H, W, 3) uint8 image."""
    png = io.BytesIO()
    Image.fromarray(image).save(png, format="PNG")
    files = [codec.encode(image, quality) for quality in QUALITIES]
    return [Case(quality, png.getvalue(), file, codec.decode(file)) for quality, file in zip(QUALITIES, files)]


async def load(url: str, cases: list[Case], requests: int, body_limit: int) -> list[Outcome]:
    """Sends so many requests at once and waits for all of them."""
    # A connection for each request: one that was kept may end, by right, just when it is used again.
    limits = httpx.Limits(max_connections=requests, max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits) as client:
        return await asyncio.gather(*(_request(client, cases[n % len(cases)], n, body_limit) for n in range(requests)))


async def _request(client: httpx.AsyncClient, case: Case, number: int, body_limit: int) -> Outcome:
    turn = number % 20
    if turn == 2:
        return await _slow(client)
    if turn == 3:
        whole = bytes(4 * body_limit)
        content = whole if number % 40 == turn else _parts(whole)
        return await _refused(client, "oversized", "/encode", content, 413)
    if turn in (0, 1):
        damaged = bytearray(case.file if turn else case.png)
        damaged[number % len(damaged)] ^= 0x55
        if not turn:
            del damaged[len(damaged) // 2 :]
        return await _refused(client, "damaged", "/decode" if turn else "/encode", bytes(damaged), 400)
    if turn % 2:
        statuses, response = await _patiently(client, f"/encode?quality={case.quality}", _other_png(case.png, number))
        return Outcome("encode", statuses, response.status_code == 200 and response.content == case.file)
    statuses, response = await _patiently(client, "/decode", _other_file(case.file, number))
    return Outcome("decode", statuses, response.status_code == 200 and _close(response.content, case.pixels))


def _other_png(png: bytes, number: int) -> bytes:
    """The same image in other bytes, so that no answer can come from the service's cache."""
    text = b"tEXt" + b"Comment\0%d" % number
    chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
    return png[:33] + chunk + png[33:]  # after IHDR


def _other_file(file: bytes, number: int) -> bytes:
    header, chunks = bitstream.unpack(file)
    return bitstream.pack(header, {**chunks, "note": b"%d" % number})


async def _patiently(
    client: httpx.AsyncClient, path: str, content: bytes | AsyncIterator[bytes]
) -> tuple[tuple[int, ...], httpx.Response]:
    """All statuses and the last response of a request that is sent again for as long as the service is busy."""
    statuses: list[int] = []
    while len(statuses) < ATTEMPTS:
        try:
            response = await client.post(path, content=content)
        except httpx.TransportError as error:  # no answer: status 0
            response = httpx.Response(0, json={"error": str(error)})
        statuses.append(response.status_code)
        if response.status_code != 503:
            break
        await asyncio.sleep(float(response.headers["Retry-After"]) / 4)
    return tuple(statuses), response


async def _refused(
    client: httpx.AsyncClient, kind: str, path: str, content: bytes | AsyncIterator[bytes], status: int
) -> Outcome:
    statuses, response = await _patiently(client, path, content)
    return Outcome(kind, statuses, response.status_code == status and _sentence(response.json()["error"]))


def _sentence(text: str) -> bool:
    return len(text.split()) > 3


async def _parts(whole: bytes) -> AsyncIterator[bytes]:
    """A body whose length is not declared."""
    for start in range(0, len(whole), 65536):
        yield whole[start : start + 65536]


async def _slow(client: httpx.AsyncClient) -> Outcome:
    """A client that sends a byte every fifth of a second."""
    reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
    try:
        writer.write(b"POST /decode HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n")
        answer = asyncio.ensure_future(reader.readuntil(b"}"))
        while not (await asyncio.wait([answer], timeout=0.2))[0]:
            writer.write(b"J")
        head, _, body = (await answer).decode().partition("\r\n\r\n")
        status = int(head.split()[1])
        return Outcome("slow", (status,), status == 408 and _sentence(body))
    except asyncio.IncompleteReadError:  # closed without an answer, as it is where not even the head came in time
        return Outcome("slow", (0,), False)
    finally:
        writer.close()


def _close(file: bytes, pixels: np.ndarray) -> bool:
    """Whether a file holds these pixels, but for what a batch changes in rounding."""
    difference = np.abs(np.asarray(Image.open(io.BytesIO(file))).astype(int) - pixels)
    return bool(difference.max() <= 1 and np.mean(difference == 0) >= 0.995)
