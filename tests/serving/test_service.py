"""The HTTP service under load, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import io
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter

import numpy as np
import pytest
from PIL import Image, ImageOps

import jnd_jax
from jnd_jax import bitstream, zoo
from jnd_jax.images import encode_lossless

httpx = pytest.importorskip("httpx", reason="needs the service's packages: pip install 'jnd-jax[dev]'")
pytest.importorskip("uvicorn", reason="needs the service's packages: pip install 'jnd-jax[serve]'")

PHOTO = np.asarray(Image.open(zoo.FOLDER / "chelsea.png").convert("RGB"))[:64, :96]
from jnd_jax.serving.service.app import Service  # noqa: E402
from jnd_jax.serving.service.limits import Limits  # noqa: E402
from jnd_jax.serving.service.models import Models  # noqa: E402
from tests.serving import load  # noqa: E402  these need the packages above

# Decoding the first image of a size compiles.
get, post = (functools.partial(method, timeout=120) for method in (httpx.get, httpx.post))
LIMITS = Limits(body=200_000, pixels=50_000, queue=8, patience=3.0)


def png(pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()


def with_a_wrong_crc(data: bytes) -> bytes:
    """The PNG with a chunk of text whose CRC is wrong, which readers may skip."""
    return data[:33] + b"\0\0\0\3tEXta\0b" + b"\0\0\0\0" + data[33:]


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)))


@contextlib.contextmanager
def serving(service: Service):
    """The address of a service that runs for as long as the context lasts."""
    server, listening = service.server(log_level="critical"), socket.create_server(("127.0.0.1", 0))
    # Connections inherit it: an answer that the client does not take stays with the service, not with the kernel.
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    thread = threading.Thread(target=server.run, args=([listening],))
    thread.start()
    try:
        wait(lambda: server.started)
        wait(lambda: get(f"http://127.0.0.1:{listening.getsockname()[1]}/ready").status_code == 200, 300)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def wait(condition, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def connect(url: str) -> socket.socket:
    host, port = url.removeprefix("http://").split(":")
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(30)
    connection.connect((host, int(port)))
    return connection


@pytest.fixture(scope="module")
def codec(golden_model):
    return jnd_jax.load(golden_model)


@pytest.fixture(scope="module")
def files(codec):
    return [codec.encode(PHOTO, quality) for quality in (20, 50, 80)]


@pytest.fixture(scope="module")
def url(codec, golden_model, files, tmp_path_factory):
    store = tmp_path_factory.mktemp("store")
    (store / "cats").mkdir()
    (store / "cats/chelsea.jnd").write_bytes(files[1])
    alpha = np.full(PHOTO.shape[:2], 255, np.uint8)
    alpha[0, 0] = 7
    (store / "clear.jnd").write_bytes(codec.encode(PHOTO, 50, extras={"alpha": encode_lossless(alpha)}))
    (store.parent / "secret.jnd").write_bytes(files[0])
    os.mkfifo(store / "pipe.jnd")
    with (store / "huge.jnd").open("wb") as huge:
        huge.truncate(LIMITS.body + 1)
    with serving(Service(Models(golden_model), LIMITS, store)) as url:
        yield url


def refused(response, status: int, match: str) -> None:
    assert response.status_code == status and match in response.json()["error"], response.text


def test_encode_and_decode_are_the_codecs(url, codec, files):
    data = post(f"{url}/encode?quality=20", content=png(PHOTO)).content
    assert data == files[0]
    for kind in ("png", "webp"):
        response = post(f"{url}/decode?format={kind}", content=data)
        assert response.headers["content-type"] == f"image/{kind}"
        np.testing.assert_array_equal(pixels(response.content), codec.decode(data))
    target = post(f"{url}/encode?target=bpp=4", content=png(PHOTO)).content
    assert 8 * len(target) / PHOTO[..., 0].size <= 4


def test_health_and_metrics(url, codec):
    assert get(f"{url}/health").json() == {"status": "ok", "model": codec.name, "hash": codec.hash}
    post(f"{url}/decode", content=b"none")
    text = get(f"{url}/metrics").text
    assert 'jnd_requests_total{method="POST",route="/decode",status="400"}' in text and "jnd_held_bytes 0.0" in text


@pytest.mark.parametrize(
    "path, body, status, match",
    [
        ("/decode", b"no file", 400, "not a .jnd file"),
        ("/decode", b"", 400, "empty"),
        ("/decode?format=gif", b"x", 400, "gif"),
        ("/decode?width=0", b"x", 400, "from 1 to 65535"),
        ("/encode", b"no image", 400, "kinds PNG"),
        ("/encode?quality=101", png(PHOTO), 400, "0 to 100"),
        ("/encode?quality=nan", png(PHOTO), 400, "0 to 100"),
        ("/encode?quality=high", png(PHOTO), 400, "'high'"),
        ("/encode?quality=5_0", png(PHOTO), 400, "in tenths"),
        ("/encode?quality=50.05", png(PHOTO), 400, "in tenths"),
        ("/encode?quality=50&quality=60", png(PHOTO), 400, "once"),
        ("/encode?target=beauty", png(PHOTO), 400, "beauty"),
        ("/encode?speed=1", png(PHOTO), 400, "speed"),
        ("/encode", png(np.zeros((250, 250, 3), np.uint8)), 413, "pixels"),
        ("/encode", with_a_wrong_crc(png(np.zeros((250, 250, 3), np.uint8))), 413, "pixels"),
        ("/encode", bytes(LIMITS.body + 1), 413, "bytes"),
    ],
)
def test_a_bad_request_gets_a_sentence(url, path, body, status, match):
    refused(post(url + path, content=body), status, match)


def test_a_compressed_body_is_refused(url):
    refused(post(f"{url}/encode", content=png(PHOTO), headers={"Content-Encoding": "gzip"}), 415, "Content-Encoding")


def test_another_models_file_is_refused(url, files):
    header, chunks = bitstream.unpack(files[0])
    stream = bitstream.pack(dataclasses.replace(header, model="0123456789abcdef"), chunks)
    refused(post(f"{url}/decode", content=stream), 400, "made with model")


def test_a_body_of_undeclared_length_is_bounded(url):
    def endless():
        for _ in range(100):
            yield bytes(10_000)

    refused(post(f"{url}/encode", content=endless()), 413, "bytes")


def test_a_slow_client_is_let_go(url):
    with connect(url) as connection:
        connection.sendall(b"POST /encode HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")
        assert connection.recv(100).startswith(b"HTTP/1.1 408")


def test_browsers_get_what_they_accept(url, codec, files):
    picture = f"{url}/pictures/cats/chelsea.jnd"
    webp = get(picture, headers={"Accept": "image/avif,image/webp,*/*"})
    jpeg = get(picture, headers={"Accept": "*/*"})
    assert (webp.headers["content-type"], jpeg.headers["content-type"]) == ("image/webp", "image/jpeg")
    assert webp.headers["vary"] == "Accept" and "max-age" in webp.headers["cache-control"]
    assert webp.headers["etag"] != jpeg.headers["etag"]
    for response, options in ((webp, {"format": "WEBP"}), (jpeg, {"format": "JPEG", "subsampling": 0})):
        expected = io.BytesIO()
        Image.fromarray(codec.decode(files[1])).save(expected, quality=90, **options)
        np.testing.assert_array_equal(pixels(response.content), pixels(expected.getvalue()))
        again = get(
            picture,
            headers={"Accept": "image/webp" if response is webp else "*/*", "If-None-Match": response.headers["etag"]},
        )
        assert again.status_code == 304 and not again.content
    clear = get(f"{url}/pictures/clear.jnd", headers={"Accept": "*/*"})
    assert clear.headers["content-type"] == "image/png" and pixels(clear.content)[0, 0, 3] == 7


@pytest.mark.parametrize("width, bound", [(24, 12), (60, 4)])
def test_a_width_gives_a_smaller_picture(url, files, width, bound):
    small = pixels(post(f"{url}/decode?width={width}", content=files[1]).content)
    whole = Image.fromarray(pixels(post(f"{url}/decode", content=files[1]).content))
    expected = np.asarray(whole.resize((width, 2 * width // 3), Image.Resampling.LANCZOS))
    assert small.shape == expected.shape and np.abs(small.astype(int) - expected).mean() < bound
    address = f"{url}/pictures/cats/chelsea.jnd"
    picture, wide = (get(address + query, headers={"Accept": "image/webp"}) for query in (f"?width={width}", ""))
    assert pixels(picture.content).shape == expected.shape and picture.headers["etag"] != wide.headers["etag"]


def test_a_width_is_that_of_the_picture_as_it_is_shown(url, codec):
    turned = Image.Exif()
    turned[0x0112] = 6
    data = codec.encode(PHOTO, 50, extras={"exif": turned.tobytes()[6:]})
    shown = Image.open(io.BytesIO(post(f"{url}/decode?width=24", content=data).content))
    assert ImageOps.exif_transpose(shown).width == 24


def test_a_picture_is_not_made_wider(url, files):
    assert pixels(post(f"{url}/decode?width=4000", content=files[1]).content).shape == PHOTO.shape


@pytest.mark.parametrize(
    "name",
    [
        *("none.jnd", "..%2Fsecret.jnd", "%2e%2e/secret.jnd", "cats", "%00.jnd", "a" * 300 + ".jnd", "pipe.jnd"),
        *("cats/chelsea.jnd/", "cats/chelsea.jnd%0a", "cats//chelsea.jnd"),
    ],
)
def test_only_stored_pictures_are_shown_by_one_name(url, name):
    assert get(f"{url}/pictures/{name}").status_code == 404


def test_a_stored_file_beyond_the_limit_is_not_read(url):
    refused(get(f"{url}/pictures/huge.jnd"), 500, "larger than")


def test_many_requests_at_once(url, codec):
    """A tenth are damaged, others slow or too large; what the service has no room for is sent again when it says so."""
    outcomes = asyncio.run(load.load(url, load.cases(codec, PHOTO), 100, LIMITS.body))
    assert [outcome for outcome in outcomes if not outcome.right] == []
    last = Counter(outcome.statuses[-1] for outcome in outcomes)
    assert last == {200: 80, 400: 10, 408: 5, 413: 5}
    assert any(503 in outcome.statuses for outcome in outcomes)
    text = get(f"{url}/metrics").text
    assert "jnd_workers_busy 0.0" in text and 'jnd_workers_replaced_total{reason="expensive"} 0.0' in text
    assert "jnd_held_bytes 0.0" in text


def test_images_beyond_a_tile_are_decoded_too(url, codec):
    image = np.tile(PHOTO, (1, 12, 1))[:32]
    data = codec.encode(image, 30)
    response = post(f"{url}/decode", content=data)
    np.testing.assert_array_equal(pixels(response.content), codec.decode(data))


def test_a_quality_by_region_is_decoded(url, codec):
    data = codec.encode(
        PHOTO, 10, mask=np.repeat(np.arange(96, dtype=np.uint8)[None] * 2, 64, axis=0), region_quality=90
    )
    response = post(f"{url}/decode", content=data)
    np.testing.assert_array_equal(pixels(response.content), codec.decode(data))


def test_a_request_that_does_not_begin_ends(url):
    for beginning in (b"", b"POST /encode HT"):
        with connect(url) as connection:
            connection.sendall(beginning)
            with contextlib.suppress(ConnectionResetError):
                assert connection.recv(100) == b""


def test_an_answer_that_is_not_taken_is_given_up(codec, golden_model):
    """The service holds it for as long as it is patient, and then no longer."""
    noise = np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)
    data = codec.encode(noise, 100)
    with serving(Service(Models(golden_model), Limits(patience=1.0))) as url, connect(url) as connection:
        connection.sendall(b"POST /decode HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(data) + data)
        held = lambda: float(re.search(r"\njnd_held_bytes (\S+)", get(f"{url}/metrics").text)[1])
        wait(lambda: held() > 100_000)
        wait(lambda: held() == 0)


def test_the_command_serves_and_stops(golden_model, tmp_path):
    command = [sys.executable, "-m", "jnd_jax.cli", "serve", str(golden_model), "--port"]
    with subprocess.Popen([*command, "0"], stdout=subprocess.PIPE, text=True) as process:
        try:
            url = process.stdout.readline().strip()
            assert get(f"{url}/health").json()["status"] == "ok"
            second = subprocess.run([*command, url.rpartition(":")[2]], capture_output=True, text=True)
            assert second.returncode == 2 and "in use" in second.stderr and "Traceback" not in second.stderr
        finally:
            process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)
