from __future__ import annotations

import dataclasses
import json
import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from jnd_jax import codec, losses, modelfile
from jnd_jax.errors import JndError
from jnd_jax.training import checkpoint, loop, packaging, parallel
from tests.models import CONFIG
from tests.training.tiny import TinyCodec, tiny_config, write_photos


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    write_photos(folder / "photos")
    return folder


def run(config, workdir, **more):
    return loop.train_and_evaluate(config, workdir, model=TinyCodec(), **more)


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


@pytest.fixture
def sigterm_at(monkeypatch):
    """Send SIGTERM to this process when the given step is logged."""

    def arrange(at):
        scalars = loop.Log.scalars

        def spy(self, kind, step, values):
            scalars(self, kind, step, values)
            if step == at:
                os.kill(os.getpid(), signal.SIGTERM)

        monkeypatch.setattr(loop.Log, "scalars", spy)

    return arrange


def events(workdir, kind):
    lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if line["kind"] == kind]


@pytest.mark.parametrize("optimizer", ["adam", "muon", "soap"])
def test_a_resumed_run_is_bit_identical_to_an_uninterrupted_one(folder, tmp_path, optimizer, sigterm_at):
    config = tiny_config(folder, optimizer=optimizer, stages=((8, 128, 4), (12, 64, 8)))
    whole = run(config, tmp_path / "whole")
    sigterm_at(10)
    half = run(config, tmp_path / "parts")
    assert int(half.step) == 10 and not (tmp_path / "parts/model.safetensors").exists()
    resumed = run(config, tmp_path / "parts")
    assert int(resumed.step) == 20
    assert same(whole, resumed)
    assert not same(half.params, resumed.params)


def test_training_lowers_the_loss_and_reports_it(folder, tmp_path):
    run(tiny_config(folder, optimizer="adam", learning_rate=5e-3, steps=60), tmp_path)
    train = events(tmp_path, "train")
    assert [line["step"] for line in train] == list(range(5, 61, 5))
    assert train[-1]["loss"] < 0.5 * train[0]["loss"]
    assert {"bpp", "psnr", "grad_norm", "lr", "images_per_s"} <= train[0].keys()
    (final,) = events(tmp_path, "eval")
    assert final["step"] == 60 and {"bpp_q500", "psnr_q500", "score"} <= final.keys()
    assert (tmp_path / "model.safetensors").exists() and json.loads((tmp_path / "config.json").read_text())


def test_a_finished_run_started_again_trains_no_further(folder, tmp_path, monkeypatch):
    config = tiny_config(folder, steps=5)
    first = run(config, tmp_path)
    monkeypatch.setattr(parallel.Parallel, "compile", lambda *_: pytest.fail("a step was compiled"))
    assert same(first, run(config, tmp_path))


def test_frozen_parameters_keep_their_bits_and_others_move(folder, tmp_path):
    config = tiny_config(folder, optimizer="adam", freeze=("analysis",))
    start = loop.initial_params(config, TinyCodec())
    final = run(config, tmp_path)
    for trained in (final.params, final.ema):
        assert same(start["analysis"], trained["analysis"])
        assert not same(start["synthesis"], trained["synthesis"])


@pytest.mark.parametrize("source,optimizer", [("model.safetensors", "adam"), ("", "muon"), ("", "soap")])
def test_a_warm_start_takes_the_averaged_parameters(folder, tmp_path, source, optimizer):
    first = run(tiny_config(folder, optimizer=optimizer), tmp_path / "first")
    config = tiny_config(folder, init_from=str(tmp_path / "first" / source))
    assert same(loop.initial_params(config, TinyCodec()), first.ema)
    assert not same(first.params, first.ema)


def test_a_warm_start_of_other_sizes_names_the_parameter(folder, tmp_path):
    run(tiny_config(folder, steps=1), tmp_path)

    with pytest.raises(JndError, match="analysis/bias"):
        loop.initial_params(tiny_config(folder, init_from=str(tmp_path)), TinyCodec(channels=16))


def test_a_decayed_branch_starts_from_the_whole_state_of_its_trunk(folder, tmp_path):
    trunk = run(tiny_config(folder, optimizer="adam", steps=10, decay=0.0), tmp_path / "trunk")
    config = tiny_config(folder, optimizer="adam", steps=20, decay_from_step=10, branch_from=str(tmp_path / "trunk"))
    branch = run(config, tmp_path / "branch")
    assert int(branch.step) == 20
    rates = [line["lr"] for line in events(tmp_path / "branch", "train")]
    assert len(rates) == 2 and rates[1] < rates[0] < 1e-3
    assert same(trunk.params, checkpoint.load_params(tmp_path / "trunk", ema=False))


def test_a_checkpoint_of_another_optimizer_is_refused(folder, tmp_path):
    run(tiny_config(folder, steps=1, optimizer="adam"), tmp_path)
    with pytest.raises(JndError, match="optimizer=adam, not soap.*config") as caught:
        run(tiny_config(folder, steps=2, optimizer="soap"), tmp_path)
    assert len(str(caught.value)) < 400


class Weighed(TinyCodec):
    """A codec with an option that shapes no parameter."""

    weight: float = dataclasses.field(default=0.0, metadata={"shapes": False})


def test_an_option_that_shapes_no_parameter_may_change_when_a_run_goes_on(folder, tmp_path):
    config = tiny_config(folder, steps=1)
    loop.train_and_evaluate(config, tmp_path, model=Weighed(weight=0.1))
    config.train.steps = 2
    assert int(loop.train_and_evaluate(config, tmp_path, model=Weighed(weight=0.2)).step) == 2
    with pytest.raises(JndError, match="channels=12, not 6"):
        loop.train_and_evaluate(config, tmp_path, model=Weighed(channels=6))
    assert "masked_share" not in codec.shaping(codec.settings("lapped"))


def bad_between(first, last):
    """A loss that is not a number where the batch's first example index lies in [first, last)."""

    def loss(batch, x_hat):
        index = batch["index"][0] if "index" in batch else -1
        spoilt = (index >= first) & (index < last)
        return jnp.where(spoilt, jnp.nan, 1.0) * jnp.mean((batch["image"] - x_hat) ** 2, (1, 2, 3))

    return loss


def test_steps_without_a_finite_gradient_change_nothing_and_are_counted(folder, tmp_path):
    config = tiny_config(folder, optimizer="adam", steps=10)
    before = run(
        tiny_config(folder, optimizer="adam", stages=((5, 64, 8),), decay=0.0), tmp_path / "a", loss=bad_between(0, 0)
    )
    after = run(config, tmp_path / "b", loss=bad_between(5 * 8, 10 * 8))
    assert same(before.params, after.params) and same(before.ema, after.ema)
    assert int(after.skipped) == 5 and int(after.skipped_in_row) == 5
    recovered = run(config, tmp_path / "c", loss=bad_between(3 * 8, 5 * 8))
    assert int(recovered.skipped) == 2 and int(recovered.skipped_in_row) == 0
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(recovered.params))


def test_twenty_bad_steps_in_a_row_stop_the_run_at_its_last_good_checkpoint(folder, tmp_path):
    config = tiny_config(folder, optimizer="adam", steps=60)
    config.checkpoint.every_steps = 10
    with pytest.raises(JndError, match="learning_rate"):
        run(config, tmp_path, loss=bad_between(12 * 8, 1000 * 8))
    with checkpoint.read_manager(tmp_path) as manager:
        assert 10 <= manager.latest_step() <= 32
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(checkpoint.load_params(tmp_path)))


def test_only_the_last_checkpoints_stay(folder, tmp_path):
    config = tiny_config(folder, steps=20)
    config.checkpoint.every_steps = 5
    run(config, tmp_path)
    with checkpoint.read_manager(tmp_path) as manager:
        assert manager.all_steps() == [15, 20]


def test_accumulation_gives_the_gradient_of_the_whole_batch(folder, tmp_path):
    settings = dict(optimizer="sgd", clip=0.0, learning_rate=1e-6, steps=10)
    whole = run(tiny_config(folder, **settings), tmp_path / "whole")
    parts = run(tiny_config(folder, accumulate=4, **settings), tmp_path / "parts")
    start = loop.initial_params(tiny_config(folder), TinyCodec())
    for a, b, before in zip(*map(jax.tree.leaves, (whole.params, parts.params, start))):
        moved = np.linalg.norm(a - before)
        assert moved > 0 and np.linalg.norm(a - b) < 1e-3 * moved


def test_crops_and_batches_that_cannot_be_say_what_can(folder, tmp_path):
    for stage, says in (((5, 100, 8), "data.crop a multiple of 64"), ((5, 64, 7), "data.batch a multiple of 2")):
        with pytest.raises(JndError, match=says):
            run(tiny_config(folder, stages=(stage,), accumulate=2), tmp_path)


def test_paired_images_reach_the_loss(folder, tmp_path):
    values = {}
    for level in (0, 40):
        pairs = write_photos(tmp_path / f"JND{level}")
        for path in pairs.iterdir():
            Image.fromarray(np.asarray(Image.open(path)) // 2 + 60 + level).save(path)
        config = tiny_config(folder, steps=5, lmbda=1.0)
        config.data.jnd_path = str(pairs)
        config.loss.name = "pixel_wise"
        run(config, tmp_path / f"run{level}")
        values[level] = events(tmp_path / f"run{level}", "train")[0]["loss"]
    assert abs(values[40] / values[0] - 1) > 0.02


def test_a_fixed_lambda_evaluates_at_one_rate(folder, tmp_path):
    run(tiny_config(folder, steps=2, lmbda=0.01), tmp_path)
    assert {"bpp_fixed", "psnr_fixed"} <= events(tmp_path, "eval")[0].keys()


def test_the_best_checkpoint_stays_beside_the_last_ones(folder, tmp_path, monkeypatch):
    scores = {5: 3.0, 10: 1.0, 15: 4.0, 20: 5.0, 25: 6.0}
    config = tiny_config(folder, optimizer="adam", steps=25)
    config.eval.every = 5
    seen = iter(scores.values())
    monkeypatch.setattr(loop, "make_evaluator", lambda *_: lambda params: ({"score": next(seen)}, {}))
    run(config, tmp_path)
    assert sorted(int(path.name) for path in (tmp_path / "checkpoints").iterdir()) == [10, 20, 25]
    best, last = (checkpoint.load_params(tmp_path, best=flag) for flag in (True, False))
    assert not same(best, last)


def test_a_score_that_is_no_number_is_not_the_best(folder, tmp_path, monkeypatch):
    scores = {5: float("nan"), 10: 1.0, 15: 4.0, 20: 5.0}
    config = tiny_config(folder, optimizer="adam", steps=20)
    config.eval.every, seen = 5, iter(scores.values())
    monkeypatch.setattr(loop, "make_evaluator", lambda *_: lambda params: ({"score": next(seen)}, {}))
    run(config, tmp_path)
    assert sorted(int(path.name) for path in (tmp_path / "checkpoints").iterdir()) == [10, 15, 20]


def test_validation_shows_pictures(folder, tmp_path):
    run(tiny_config(folder, steps=1), tmp_path)
    written = b"".join(path.read_bytes() for path in (tmp_path / "tensorboard").iterdir())
    assert b"original_decode_error_visible_bits/q500" in written


def test_a_model_file_names_every_size_of_its_model(tmp_path):
    model = codec.build(CONFIG)
    params = model.init(jax.random.key(0), jnp.zeros((1, 64, 64, 3)), jnp.zeros(1))["params"]
    packaging.export_model(params, tmp_path / "tiny-1.safetensors", model)
    written = modelfile.load(tmp_path / "tiny-1.safetensors").config
    assert written | CONFIG == written and written.keys() == codec.settings("lapped").keys()


def test_a_sigterm_during_the_final_validation_loses_nothing(folder, tmp_path, monkeypatch):
    def evaluator(*_):
        def evaluate(params):
            assert (tmp_path / "checkpoints/5").is_dir()
            os.kill(os.getpid(), signal.SIGTERM)
            return {"score": 1.0}, {}

        return evaluate

    monkeypatch.setattr(loop, "make_evaluator", evaluator)
    assert int(run(tiny_config(folder, steps=5), tmp_path).step) == 5
    assert (tmp_path / "model.safetensors").exists()
    assert [line["score"] for line in events(tmp_path, "eval")] == [1.0]


@pytest.mark.parametrize("moment", [(parallel.Parallel, "compile"), (checkpoint, "save"), (loop.Run, "validate")])
def test_a_sigterm_at_an_odd_moment_ends_the_run_after_the_step(folder, tmp_path, monkeypatch, moment):
    """While the first step compiles, while a checkpoint is written, while images are validated in the middle of a run."""
    place, name = moment
    original = getattr(place, name)

    def and_sigterm(*arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        return original(*arguments)

    config = tiny_config(folder, optimizer="adam", steps=20)
    config.eval.every = config.checkpoint.every_steps = 5
    monkeypatch.setattr(place, name, and_sigterm)
    stopped = run(config, tmp_path / "parts")
    assert int(stopped.step) == {"compile": 1, "save": 6, "validate": 6}[name]
    assert not (tmp_path / "parts/model.safetensors").exists()
    monkeypatch.undo()
    assert same(run(config, tmp_path / "whole"), run(config, tmp_path / "parts"))
    assert [line["step"] for line in events(tmp_path / "parts", "eval")] == [5, 10, 15, 20]


def test_the_last_score_counts_where_its_step_was_saved_before(folder, tmp_path):
    config = tiny_config(folder, steps=5)
    config.checkpoint.every_steps = 5
    final = run(config, tmp_path)
    assert same(final.ema, checkpoint.load_params(tmp_path, best=True))


def test_a_resumed_run_logs_no_step_twice(folder, tmp_path):
    config = tiny_config(folder, optimizer="adam", steps=10)
    run(config, tmp_path)
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"kind": "train", "step": 15, "loss": 1.0}\n{"kind": "tra')  # a process that was killed
    config.train.steps = 20
    run(config, tmp_path)
    assert [line["step"] for line in events(tmp_path, "train")] == [5, 10, 15, 20]
    assert [line["step"] for line in events(tmp_path, "eval")] == [10, 20]


def test_an_own_loss_is_validated_by_itself(folder, tmp_path):
    run(tiny_config(folder, steps=1, lmbda=4.0), tmp_path, loss=lambda batch, x_hat: jnp.full(len(x_hat), 3.0))
    (line,) = events(tmp_path, "eval")
    assert line["score"] == pytest.approx((line["bpp_fixed"] + 4.0 * 3.0) / 2.0, rel=1e-5)


@pytest.mark.parametrize("log_every", [1, 5, 10])
def test_a_profile_is_written_however_often_the_run_logs(folder, tmp_path, log_every):
    config = tiny_config(folder, steps=16)
    config.log_every = log_every
    run(config, tmp_path, profile=True)
    assert any((tmp_path / "profile").rglob("*.xplane.pb"))


def test_a_run_too_short_for_a_profile_says_so(folder, tmp_path):
    with pytest.raises(JndError, match="only 12 are left"):
        run(tiny_config(folder, steps=12), tmp_path, profile=True)


@pytest.mark.parametrize("option", ["branch_from", "init_from"])
def test_a_run_to_start_from_that_is_none_is_named_and_not_made(folder, tmp_path, option):
    typo = tmp_path / "typo"
    with pytest.raises(JndError, match="typo"):
        run(tiny_config(folder, **{option: str(typo)}), tmp_path / "run")
    assert not typo.exists()


@pytest.mark.parametrize(
    "part,option,value,says",
    [
        ("train", "quality", 300, r"\(300, 700\)"),
        ("train", "quality", (700, 300), "0 to 1000"),
        ("train", "stages", (5, 64, 2), r"\(\(2000, 128, 16\),\)"),
        ("train", "betas", (0.9,), "two numbers"),
        ("train", "accumulate", 0, "at least 1"),
        ("train", "power", 0.0, "at least 0.01"),
        ("train", "freeze", "synthesis", "tuple"),
        ("eval", "qualities", 300, r"\(300,\)"),
        ("eval", "qualities", (), r"\(300,\)"),
        ("train", "stages", ((5, 64, 2),), "train.steps=0"),
        ("train", "weight_decay", 0.1, "adamw or muon"),
        ("model", "name", "nobody", "mbt2018-mean"),
        ("model", "name", "tests.training.tiny:Nobody", "cannot be imported"),
        ("model", "name", "json:loads", "flax.linen.Module"),
    ],
)
def test_a_config_that_cannot_be_is_refused_in_one_sentence(folder, tmp_path, part, option, value, says):
    config = tiny_config(folder)
    with config.ignore_type():
        config[part][option] = value
    with pytest.raises(JndError, match=says) as caught:
        loop.train_and_evaluate(config, tmp_path / "run")
    assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()


def test_a_power_of_a_loss_that_may_be_negative_is_refused(folder, tmp_path):
    config = tiny_config(folder, power=0.5)
    config.loss = ConfigDict(losses.settings("combine", terms=(losses.settings("image_wise"),)))
    with pytest.raises(JndError, match="train.power=1"):
        loop.train_and_evaluate(config, tmp_path / "run")


def test_a_model_named_by_its_import_path_trains_and_is_named_in_its_file(folder, tmp_path):
    config = tiny_config(folder, steps=1)
    config.model = ConfigDict(dict(name="tests.training.tiny:TinyCodec", channels=6))
    loop.train_and_evaluate(config, tmp_path)
    config = modelfile.load(tmp_path / "model.safetensors").config
    assert config == {"name": "tests.training.tiny:TinyCodec", "channels": 6}
    assert codec.build(config) == TinyCodec(6)


def test_a_model_that_no_import_reaches_is_refused_before_it_is_trained(folder, tmp_path):
    class Local(TinyCodec):
        pass

    with pytest.raises(JndError, match="top level of a module"):
        loop.train_and_evaluate(tiny_config(folder), tmp_path / "run", model=Local())
    assert not (tmp_path / "run").exists()


def test_options_of_the_step_leave_the_loss_nearly_as_it_is(folder, tmp_path):
    values = []
    for option in ("", "bfloat16", "remat"):
        config = tiny_config(folder, steps=2, lmbda=0.01)
        config.model = ConfigDict(CONFIG)
        if option:
            config.train[option] = True
        loop.train_and_evaluate(config, tmp_path / f"run{option}")
        values.append(events(tmp_path / f"run{option}", "train")[0]["loss"])
    assert values[1:] == pytest.approx([values[0]] * 2, rel=1e-2) and values[1] != values[0]
