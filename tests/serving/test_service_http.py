"""The service as HTTP: negotiation, caches, errors, models, and what it says of itself."""

from __future__ import annotations

import dataclasses
import functools
import json
import logging
import re

import numpy as np
import pytest

import jnd_jax
from jnd_jax import bitstream
from jnd_jax.errors import JndError
from jnd_jax.images import encode_lossless
from tests.models import write_tiny_model

httpx = pytest.importorskip("httpx", reason="needs the service's packages: pip install 'jnd-jax[dev]'")
pytest.importorskip("uvicorn", reason="needs the service's packages: pip install 'jnd-jax[serve]'")
from jnd_jax.serving.service.app import OPENAPI, Service  # noqa: E402  these need the packages above
from jnd_jax.serving.service.limits import Limits  # noqa: E402
from jnd_jax.serving.service.models import Models  # noqa: E402
from tests.serving.test_service import PHOTO, connect, pixels, png, refused, serving, wait  # noqa: E402

get, post, head = (functools.partial(method, timeout=120) for method in (httpx.get, httpx.post, httpx.head))
LIMITS = Limits(pixels=50_000, target_pixels=5_000)
CHROME = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"


@dataclasses.dataclass
class Site:
    """A service with two models, the files of its store, and its parts."""

    url: str
    service: Service
    models: Models
    old: jnd_jax.image_codec.ImageCodec
    new: jnd_jax.image_codec.ImageCodec


@pytest.fixture(scope="module")
def site(golden_model, tmp_path_factory):
    store, folder = tmp_path_factory.mktemp("store"), tmp_path_factory.mktemp("models")
    (folder / "old.safetensors").write_bytes(golden_model.read_bytes())
    write_tiny_model(folder / "new.safetensors", seed=1)
    old, new = (jnd_jax.load(str(folder / f"{name}.safetensors")) for name in ("old", "new"))
    (store / "old.jnd").write_bytes(old.encode(PHOTO, 50))
    (store / "new.jnd").write_bytes(new.encode(PHOTO, 50))
    alpha = np.full(PHOTO.shape[:2], 255, np.uint8)
    alpha[0, 0] = 7
    (store / "clear.jnd").write_bytes(old.encode(PHOTO, 50, extras={"alpha": encode_lossless(alpha)}))
    header, chunks = bitstream.unpack(old.encode(PHOTO, 50))
    (store / "damaged.jnd").write_bytes(bitstream.pack(header, chunks)[:-1])
    (store / "unknown.jnd").write_bytes(bitstream.pack(dataclasses.replace(header, model="ab" * 8), chunks))
    (store / "tfc.jnd").write_bytes(bitstream.pack(dataclasses.replace(header, coder="tfc"), chunks))
    models = Models("new", folder)
    service = Service(models, LIMITS, store, origins=["https://example.org"])
    with serving(service) as url:
        yield Site(url, service, models, old, new)


def test_files_of_every_known_model_are_decoded(site):
    for codec, other in ((site.old, site.new), (site.new, site.old)):
        data = codec.encode(PHOTO, 30)
        np.testing.assert_array_equal(pixels(post(f"{site.url}/decode", content=data).content), codec.decode(data))
        np.testing.assert_array_equal(
            pixels(post(f"{site.url}/decode", content=other.encode(PHOTO, 30)).content),
            other.decode(other.encode(PHOTO, 30)),
        )
    encode = lambda query: bitstream.unpack(post(f"{site.url}/encode{query}", content=png(PHOTO)).content)[0].model
    assert encode("") == site.new.hash
    assert encode(f"?model={site.old.hash}") == site.old.hash
    refused(post(f"{site.url}/encode?model=none", content=png(PHOTO)), 400, "no model 'none'")


@pytest.mark.parametrize(
    "accept, kind",
    [
        (CHROME, "webp"),
        ("image/webp;q=0, */*", "jpeg"),
        ("image/webp;q=0.2, image/jpeg", "jpeg"),
        ("IMAGE/WEBP", "webp"),
        ("image/*", "jpeg"),
        ("", "jpeg"),
    ],
)
def test_the_form_is_what_accept_ranks_first(site, accept, kind):
    response = head(f"{site.url}/pictures/old.jnd", headers={"Accept": accept})
    assert response.status_code == 200 and response.headers["content-type"] == f"image/{kind}"


def test_a_client_that_takes_no_form_is_told(site):
    response = get(f"{site.url}/pictures/clear.jnd", headers={"Accept": "image/jpeg"})
    refused(response, 406, "image/png")
    assert "Accept" in response.headers["vary"] and response.headers["cache-control"] == "no-store"


def test_the_head_of_a_picture_is_that_of_the_picture_and_costs_no_decoding(site):
    url, headers = f"{site.url}/pictures/new.jnd", {"Accept": CHROME}
    work = lambda: re.findall(r'jnd_work_seconds_count\{class="picture"\} \S+', get(f"{site.url}/metrics").text)
    before = work()
    short, long = head(url, headers=headers), None
    assert work() == before and not short.content
    long = get(url, headers=headers)
    for name in ("etag", "content-type", "cache-control", "vary", "content-disposition", "accept-ranges"):
        assert short.headers[name] == long.headers[name]
    assert "content-length" not in short.headers
    assert long.headers["content-disposition"] == "inline; filename*=UTF-8''new.webp"
    assert site.new.hash in long.headers["etag"] and "webp" in long.headers["etag"]
    assert long.headers["accept-ranges"] == "none"
    assert get(url, headers={**headers, "Range": "bytes=0-9"}).status_code == 200


def test_what_a_cache_has_is_not_sent_again(site):
    url = f"{site.url}/pictures/old.jnd"
    tag = head(url).headers["etag"]
    for known in (tag, tag.removeprefix("W/"), f'"x", {tag}', "*"):
        response = get(url, headers={"If-None-Match": known})
        assert response.status_code == 304 and not response.content
        assert "Accept" in response.headers["vary"] and "max-age" in response.headers["cache-control"]
    for other in ('"x"', "garbage", head(url, headers={"Accept": CHROME}).headers["etag"]):
        assert get(url, headers={"If-None-Match": other}).status_code == 200


@pytest.mark.parametrize(
    "name, match", [("damaged", "ends after"), ("unknown", "folder of models"), ("tfc", "transcode")]
)
def test_a_stored_file_that_cannot_be_shown_is_the_services_fault(site, name, match):
    count = lambda: re.findall(r'jnd_requests_total.*status="500"\} \S+', get(f"{site.url}/metrics").text)
    before = count()
    refused(get(f"{site.url}/pictures/{name}.jnd"), 500, match)
    wait(lambda: count() != before)


def test_a_posted_file_of_tensorflows_coder_is_refused(site):
    header, chunks = bitstream.unpack(site.old.encode(PHOTO, 50))
    data = bitstream.pack(dataclasses.replace(header, coder="tfc"), chunks)
    refused(post(f"{site.url}/decode", content=data), 415, "transcode")


def test_images_beyond_the_limits_are_refused_before_they_are_decoded(site):
    header, chunks = bitstream.unpack(site.old.encode(PHOTO, 50))
    huge = bitstream.pack(dataclasses.replace(header, width=60_000, height=4_000), chunks)
    refused(post(f"{site.url}/decode", content=huge), 413, "pixels")
    refused(post(f"{site.url}/encode?target=psnr=30", content=png(PHOTO)), 413, "with a target")


@pytest.mark.parametrize("path", ["/health", "/ready", "/openapi.json", "/pictures/old.jnd", "/decode", "/encode"])
def test_an_unknown_parameter_is_refused(site, path):
    method = post if path in ("/decode", "/encode") else get
    refused(method(f"{site.url}{path}?colour=blue"), 400, "colour")


def test_unknown_paths_and_methods_get_a_sentence_and_are_counted(site):
    refused(get(f"{site.url}/nowhere/{1}"), 404, "openapi")
    refused(get(f"{site.url}/encode"), 405, "does not take GET")
    text = get(f"{site.url}/metrics").text
    assert 'jnd_requests_total{method="other",route="other",status="404"}' in text
    assert 'jnd_requests_total{method="GET",route="/encode",status="405"}' in text


def test_every_answer_forbids_guessing_its_type_and_has_a_request_id(site):
    for response in (get(f"{site.url}/health"), get(f"{site.url}/nowhere"), get(f"{site.url}/pictures/old.jnd")):
        assert response.headers["x-content-type-options"] == "nosniff"
        assert re.fullmatch("[0-9a-f]{32}", response.headers["x-request-id"])
    assert get(f"{site.url}/health", headers={"X-Request-ID": "abc-1"}).headers["x-request-id"] == "abc-1"


def test_only_named_origins_may_read_answers(site):
    origin = lambda name: get(f"{site.url}/health", headers={"Origin": name}).headers.get("access-control-allow-origin")
    assert origin("https://example.org") == "https://example.org" and origin("https://example.com") is None


def test_the_access_log_is_a_line_of_json_for_each_request(site, caplog):
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with caplog.at_level(logging.INFO, "jnd_jax.access"):
        data = site.old.encode(PHOTO, 40)
        answer = post(f"{site.url}/decode?format=webp", content=data, headers={"traceparent": trace})
        wait(lambda: caplog.records)
    body = answer.content
    line = json.loads(caplog.records[0].message)
    assert line["method"] == "POST" and line["path"] == "/decode" and line["query"] == "format=webp"
    assert (line["status"], line["received"], line["sent"]) == (200, len(data), len(body))
    assert (line["model"], line["pixels"], line["cached"]) == (site.old.hash, PHOTO[..., 0].size, False)
    assert line["trace_id"] == line["request_id"] == answer.headers["x-request-id"] == trace[3:35]
    assert line["parent_id"] == trace[36:52] and 0 < line["worked"] <= line["seconds"]


def test_equal_requests_are_done_once(site):
    data = site.old.encode(PHOTO, 61)
    done = lambda: re.search(r'jnd_work_seconds_count\{class="decode"\} (\S+)', get(f"{site.url}/metrics").text)[1]
    before = float(done())
    answers = {post(f"{site.url}/decode", content=data).content for _ in range(3)}
    assert len(answers) == 1 and float(done()) == before + 1


def test_the_description_is_valid_and_complete(site):
    validator = pytest.importorskip("openapi_spec_validator")
    description = get(f"{site.url}/openapi.json").json()
    assert description == json.loads(OPENAPI.read_text())
    validator.validate(description)
    served = {
        (route.path.replace(":path", ""), method)
        for route in site.service._app().routes
        for method in route.methods - {"HEAD"}
    }
    assert served == {(path, method.upper()) for path, item in description["paths"].items() for method in item}
    for path, item in description["paths"].items():
        for method, operation in item.items():
            names = [p["name"] for p in operation.get("parameters", ()) if p["in"] == "query"]
            for name in names:  # none of them is refused as unknown
                response = httpx.request(method, f"{site.url}{path}?{name}=0")
                assert "in the query" not in response.text, (path, name)


def test_metrics_follow_prometheus_conventions(site):
    from prometheus_client.parser import text_string_to_metric_families

    post(f"{site.url}/decode", content=site.old.encode(PHOTO, 33))
    families = {family.name: family for family in text_string_to_metric_families(get(f"{site.url}/metrics").text)}
    assert families["jnd_request_duration_seconds"].type == "histogram"
    assert families["process_resident_memory_bytes"].samples[0].value > 0
    assert families["jnd_workers_memory_bytes"].samples[0].value > 0
    models = {sample.labels["hash"]: sample.labels["default"] for sample in families["jnd_model_info"].samples}
    assert models[site.new.hash] == "true" and models[site.old.hash] == "false"
    assert any(s.name == "jnd_pixels_total" and s.value > 0 for s in families["jnd_pixels"].samples)


def test_an_upgrade_and_the_way_back_leave_every_file_decodable(site):
    """A model file is added and reloaded, used for some uploads, and for none again; a damaged one changes nothing."""
    folder = site.models._folder
    write_tiny_model(folder / "newer.safetensors", seed=2)
    newer = jnd_jax.load(str(folder / "newer.safetensors"))
    data = newer.encode(PHOTO, 50)
    refused(post(f"{site.url}/decode", content=data), 400, "made with model")
    site.service.reload()
    np.testing.assert_array_equal(pixels(post(f"{site.url}/decode", content=data).content), newer.decode(data))
    encode = lambda query: post(f"{site.url}/encode{query}", content=png(PHOTO)).content
    canary, back = encode(f"?model={newer.hash}"), encode("")
    assert [bitstream.unpack(file)[0].model for file in (canary, back)] == [newer.hash, site.new.hash]
    for codec, file in ((site.old, site.old.encode(PHOTO, 44)), (site.new, back), (newer, canary)):
        np.testing.assert_array_equal(pixels(post(f"{site.url}/decode", content=file).content), codec.decode(file))
    (folder / "broken.safetensors").write_bytes(b"none")
    with pytest.raises(JndError, match="broken"):
        site.service.reload()
    assert post(f"{site.url}/decode", content=data).status_code == 200
    (folder / "broken.safetensors").unlink()


def test_a_client_that_leaves_does_not_stop_the_service(site):
    data = site.old.encode(PHOTO, 77)
    with connect(site.url) as connection:
        connection.sendall(b"POST /decode HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(data) + data)
    assert post(f"{site.url}/decode", content=data).status_code == 200


def test_a_missing_folder_ends_the_start(golden_model, tmp_path):
    with pytest.raises(JndError, match="no folder"):
        Service(Models(golden_model), LIMITS, tmp_path / "none")
    with pytest.raises(JndError, match="no folder"):
        Models(golden_model, tmp_path / "none")
