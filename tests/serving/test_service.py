"""The HTTP service under load, over real sockets."""

from __future__ import annotations

import asyncio
import io
import resource
import socket
import threading
import time
from collections import Counter

import numpy as np
import pytest
from PIL import Image

import jnd_jax
from jnd_jax import zoo
from jnd_jax.io import encode_alpha
from tests.serving import golden

httpx = pytest.importorskip("httpx", reason="needs the service's packages: pip install 'jnd-jax[dev]'")
uvicorn = pytest.importorskip("uvicorn", reason="needs the service's packages: pip install 'jnd-jax[serve]'")

PHOTO = np.asarray(Image.open(zoo.FOLDER / "chelsea.png").convert("RGB"))[:64, :96]
from jnd_jax.serving.service import Limits, Service  # noqa: E402  needs the packages above

LIMITS = Limits(body=200_000, pixels=50_000, queue=8, patience=1.0)


def png(pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


@pytest.fixture(scope="module")
def codec(tiny_model):
    return jnd_jax.load(tiny_model)


@pytest.fixture(scope="module")
def files(codec):
    return [codec.encode(PHOTO, quality) for quality in (20, 50, 80)]


@pytest.fixture(scope="module")
def url(codec, files, tmp_path_factory):
    store = tmp_path_factory.mktemp("store")
    (store / "cats").mkdir()
    (store / "cats/chelsea.jnd").write_bytes(files[1])
    alpha = np.full(PHOTO.shape[:2], 255, np.uint8)
    alpha[0, 0] = 7
    (store / "clear.jnd").write_bytes(codec.encode(PHOTO, 50, extras={"alpha": encode_alpha(alpha)}))
    (store.parent / "secret.jnd").write_bytes(files[0])
    config = uvicorn.Config(Service(codec, LIMITS, store).app(), port=0, log_level="error")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield "http://127.0.0.1:%d" % server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join()


def refused(response, status: int, match: str) -> None:
    assert response.status_code == status and match in response.json()["error"], response.text


def test_encode_and_decode_are_the_codecs(url, codec, files):
    data = httpx.post(f"{url}/encode?quality=20", content=png(PHOTO)).content
    assert data == files[0]
    for kind in ("png", "webp"):
        response = httpx.post(f"{url}/decode?format={kind}", content=data)
        assert response.headers["content-type"] == f"image/{kind}"
        np.testing.assert_array_equal(pixels(response.content), codec.decode(data))
    target = httpx.post(f"{url}/encode?target=bpp=4", content=png(PHOTO), timeout=60).content
    assert 8 * len(target) / PHOTO[..., 0].size <= 4


def test_health_and_metrics(url, codec):
    assert httpx.get(f"{url}/health").json() == {"status": "ok", "model": codec.name, "hash": codec.hash}
    httpx.post(f"{url}/decode", content=b"none")
    text = httpx.get(f"{url}/metrics").text
    assert 'jnd_requests_total{route="/decode",status="400"}' in text and "jnd_held_bytes 0.0" in text


@pytest.mark.parametrize("path, body, status, match", [
    ("/decode", b"no file", 400, "not a .jnd file"),
    ("/decode", b"", 400, "empty"),
    ("/decode?format=gif", b"x", 400, "gif"),
    ("/encode", b"no image", 400, "Pillow"),
    ("/encode?quality=101", png(PHOTO), 400, "0 to 100"),
    ("/encode?quality=nan", png(PHOTO), 400, "0 to 100"),
    ("/encode?quality=high", png(PHOTO), 400, "'high'"),
    ("/encode?target=beauty", png(PHOTO), 400, "beauty"),
    ("/encode?speed=1", png(PHOTO), 400, "speed"),
    ("/encode", png(np.zeros((250, 250, 3), np.uint8)), 413, "pixels"),
    ("/encode", bytes(LIMITS.body + 1), 413, "bytes"),
])
def test_a_bad_request_gets_a_sentence(url, path, body, status, match):
    refused(httpx.post(url + path, content=body), status, match)


def test_another_models_file_is_refused(url):
    stream = (golden.FOLDER / f"{golden.NAMES[0]}.jnd").read_bytes()
    refused(httpx.post(f"{url}/decode", content=stream), 400, "made with model")


def test_a_body_of_undeclared_length_is_bounded(url):
    def endless():
        for _ in range(100):
            yield bytes(10_000)

    refused(httpx.post(f"{url}/encode", content=endless()), 413, "bytes")


def test_a_slow_client_is_let_go(url):
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(b"POST /encode HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")
        assert connection.recv(100).startswith(b"HTTP/1.1 408")


def test_browsers_get_what_they_accept(url, codec, files):
    picture = f"{url}/pictures/cats/chelsea.jnd"
    webp = httpx.get(picture, headers={"Accept": "image/avif,image/webp,*/*"})
    jpeg = httpx.get(picture, headers={"Accept": "*/*"})
    assert (webp.headers["content-type"], jpeg.headers["content-type"]) == ("image/webp", "image/jpeg")
    assert webp.headers["vary"] == "Accept" and "max-age" in webp.headers["cache-control"]
    assert webp.headers["etag"] != jpeg.headers["etag"]
    for response in (webp, jpeg):
        assert np.abs(pixels(response.content).astype(float) - codec.decode(files[1])).mean() < 8
        again = httpx.get(picture, headers={"Accept": "image/webp" if response is webp else "*/*",
                                            "If-None-Match": response.headers["etag"]})
        assert again.status_code == 304 and not again.content
    clear = httpx.get(f"{url}/pictures/clear.jnd", headers={"Accept": "*/*"})
    assert clear.headers["content-type"] == "image/png" and pixels(clear.content)[0, 0, 3] == 7


@pytest.mark.parametrize("name", ["none.jnd", "..%2Fsecret.jnd", "%2e%2e/secret.jnd", "cats", "%00.jnd", "a" * 300 + ".jnd"])
def test_only_stored_pictures_are_shown(url, name):
    assert httpx.get(f"{url}/pictures/{name}").status_code == 404


def test_two_hundred_requests_at_once(url, codec, files):
    """A tenth are damaged; what the service has no room for is sent again when it says so."""
    expected = [codec.decode(data) for data in files]
    statuses, before = Counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    async def one(client: httpx.AsyncClient, number: int) -> None:
        which, damaged = number % 3, number % 10 == 0
        data = bytearray(files[which])
        data[number % len(data)] ^= 0x55 if damaged else 0
        for _ in range(1000):
            response = await client.post(f"{url}/decode", content=bytes(data))
            statuses[response.status_code] += 1
            if response.status_code != 503:
                break
            assert response.json()["error"] and response.headers["Retry-After"] == "1"
            await asyncio.sleep(0.2)
        if damaged:
            refused(response, 400, " ")
        else:
            assert response.status_code == 200
            np.testing.assert_array_equal(pixels(response.content), expected[which])

    async def everyone() -> None:
        async with httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=200)) as client:
            await asyncio.gather(*(one(client, number) for number in range(200)))

    asyncio.run(everyone())
    assert statuses[200] == 180 and statuses[400] == 20 and statuses[503] > 0
    assert set(statuses) == {200, 400, 503}
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 300_000, f"{grown} KiB"
    text = httpx.get(f"{url}/metrics").text
    assert "jnd_busy 0.0" in text and "jnd_held_bytes 0.0" in text
