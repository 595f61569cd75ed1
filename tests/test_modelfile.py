from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jnd_jax import modelfile, zoo
from jnd_jax.errors import JndError

CONFIG = {"name": "lapped", "latents": 8, "widths": (4, 8)}
CARD = {"data": "42 photos", "hours": 1.5}


def params():
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((3, 4)).astype(np.float32)
    return {
        "net": {"Conv_0": {"kernel": kernel, "bias": np.zeros(4, np.float32)}},
        "basis": rng.standard_normal((4, 6)).astype(np.float32).T,
        "step": np.float32(0.1),
    }


def tables():
    return {"cdf": np.arange(6, dtype=np.int32).reshape(2, 3), "shift": np.array([-1, 7], np.int8)}


def save(path, **changes):
    model = {"name": "tiny", "config": CONFIG, "params": params(), "tables": tables(), "card": CARD}
    return modelfile.save(path, **model | changes)


def test_round_trip(tmp_path):
    digest = save(tmp_path / "m.safetensors")
    model = modelfile.load(tmp_path / "m.safetensors")
    assert (model.name, model.card, model.hash) == ("tiny", CARD, digest)
    assert model.config == {**CONFIG, "widths": [4, 8]}
    assert model.hash == modelfile.model_hash(model.config, model.params, model.tables)
    assert set(model.params) == {"net", "basis", "step"} and model.params["step"].shape == ()
    conv = model.params["net"]["Conv_0"]
    np.testing.assert_array_equal(conv["kernel"], params()["net"]["Conv_0"]["kernel"])
    np.testing.assert_array_equal(model.params["basis"], params()["basis"])
    for name, table in tables().items():
        np.testing.assert_array_equal(model.tables[name], table)
        assert model.tables[name].dtype == table.dtype
    assert [path.name for path in tmp_path.iterdir()] == ["m.safetensors"]


def test_the_hash_is_of_the_contents_only(tmp_path):
    other = tmp_path / "b.safetensors"
    digest = save(tmp_path / "a.safetensors")
    assert save(other, name="other", card={}) == digest
    assert save(other, params=dict(reversed(params().items()))) == digest
    assert save(other, config={**CONFIG, "latents": 9}) != digest
    assert save(other, params={**params(), "step": np.float32(0.2)}) != digest
    assert save(other, tables={**tables(), "shift": np.array([-1, 7], np.int16)}) != digest
    assert save(other, tables={**tables(), "shift": np.array([[-1, 7]], np.int8)}) != digest


def test_half_stores_float16_but_for_the_exceptions(tmp_path):
    path = tmp_path / "m.safetensors"
    digest = save(path, half=True, keep=["basis"])
    stored = load_file(path)
    assert stored["params/net/Conv_0/kernel"].dtype == np.float16
    assert stored["params/basis"].dtype == np.float32
    model = modelfile.load(path)
    kernel = model.params["net"]["Conv_0"]["kernel"]
    assert kernel.dtype == np.float32
    np.testing.assert_array_equal(kernel, params()["net"]["Conv_0"]["kernel"].astype(np.float16))
    # What was widened and saved in full is the same model.
    assert save(tmp_path / "full.safetensors", params=model.params) == digest


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e6])
def test_values_that_cannot_be_stored_are_refused(tmp_path, value):
    with pytest.raises(JndError, match="params/step has values that are not finite"):
        save(tmp_path / "m.safetensors", params={"step": np.float32(value)}, half=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("array", [np.array(["a"]), np.zeros(2, np.complex64), np.array([None])])
def test_other_kinds_of_arrays_are_refused(tmp_path, array):
    with pytest.raises(JndError, match="tables/t as floats or integers"):
        save(tmp_path / "m.safetensors", tables={"t": array})


def test_describe_reads_no_arrays(tmp_path):
    path = tmp_path / "m.safetensors"
    digest = save(path)
    described = modelfile.describe(path)
    assert described == {
        "name": "tiny",
        "config": {**CONFIG, "widths": [4, 8]},
        "card": CARD,
        "hash": digest,
        "bytes": path.stat().st_size,
        "parameters": 12 + 4 + 24 + 1,
    }


def test_damage_is_detected(tmp_path):
    path = tmp_path / "m.safetensors"
    save(path)
    data = path.read_bytes()
    rng = np.random.default_rng(1)
    for position in rng.choice(len(data), 200, replace=False):
        damaged = bytearray(data)
        damaged[position] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        try:
            model = modelfile.load(path)
        except JndError:
            continue
        # Name and card are not part of the model, and are not covered by its hash.
        assert modelfile.model_hash(model.config, model.params, model.tables) == model.hash
        assert (model.name, model.card) != ("tiny", CARD)
    for length in (0, 4, 8, 100, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(JndError, match="m.safetensors"):
            modelfile.load(path)


def test_foreign_files_are_refused(tmp_path):
    path = tmp_path / "m.safetensors"
    with pytest.raises(JndError, match="There is no model file"):
        modelfile.load(path)
    path.write_bytes(b"not a model")
    with pytest.raises(JndError, match="no model file"):
        modelfile.load(path)
    save_file({"weight": np.zeros(2)}, path)
    with pytest.raises(JndError, match="not a model of jnd_jax"):
        modelfile.load(path)
    metadata = {"format": "2", "name": "n", "config": "{}", "card": "{}", "hash": "00"}
    save_file({"params/w": np.zeros(2)}, path, metadata)
    with pytest.raises(JndError, match="newer model format 2"):
        modelfile.load(path)
    save_file({"weight": np.zeros(2)}, path, metadata | {"format": "1"})
    with pytest.raises(JndError, match="no part of a model"):
        modelfile.load(path)
    save_file({"params/w": np.zeros(2)}, path, metadata | {"format": "1", "config": "{"})
    with pytest.raises(JndError, match="damaged"):
        modelfile.load(path)


def test_names_of_the_zoo(tmp_path, monkeypatch):
    for name in ("jnd-base-2", "jnd-base-10", "jnd-base-fast-11", "jnd-tiny"):
        save(tmp_path / f"{name}.safetensors", name=name)
    monkeypatch.setattr(zoo, "models", lambda known=zoo.models(tmp_path): known)
    assert list(zoo.models()) == ["jnd-base-2", "jnd-base-10", "jnd-base-fast-11", "jnd-tiny"]
    for name, file in [
        ("jnd-base", "jnd-base-10"),
        ("jnd-base-2", "jnd-base-2"),
        ("jnd-tiny", "jnd-tiny"),
        ("jnd-base-fast", "jnd-base-fast-11"),
    ]:
        assert modelfile.find(name) == tmp_path / f"{file}.safetensors"
    assert modelfile.find(tmp_path / "jnd-base-2.safetensors") == tmp_path / "jnd-base-2.safetensors"
    for name in ("jnd", "jnd-base-3", "jnd-bas", "nowhere/model.safetensors"):
        with pytest.raises(JndError, match="one of the names jnd-base-2, jnd-base-10"):
            modelfile.find(name)


def test_a_model_is_found_by_its_hash(tmp_path, monkeypatch):
    save(tmp_path / "jnd-a-1.safetensors")
    digest = save(tmp_path / "jnd-a-2.safetensors", config={"name": "lapped"})
    monkeypatch.setattr(zoo, "models", lambda known=zoo.models(tmp_path): known)
    assert modelfile.find_by_hash(digest) == tmp_path / "jnd-a-2.safetensors"
    with pytest.raises(JndError, match="0123456789abcdef.*--model"):
        modelfile.find_by_hash("0123456789abcdef")


def test_shipped_models_are_whole_and_small():
    for name, path in zoo.models().items():
        assert modelfile.load(path).name == name
        assert path.stat().st_size <= 12e6
        assert json.dumps(modelfile.describe(path))
