"""Resuming: in the same process and another, by every way there is, the points are those of one training."""

import importlib
import json
import math
import sys
import warnings
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from foretrain.lightning import ScalingLawMonitor
from foretrain.lightning.schedule import RateRecorder
from foretrain.reporting.comparison import each_once
from foretrain.reporting.points import OTHERWISE, run_curve, usable
from lightning_models import FLAVOURS, Texts, loader, make_module, make_trainer, points, read_study
from resume_run import BATCH, EPOCH, EVERY, Attempt, loss, make, rate, runs


@pytest.fixture
def pl():
    return importlib.import_module(FLAVOURS[1])


def fit(pl, root, steps, *, monitor=None, resume=None, extra=(), at=None, **fields):
    """Trains up to a number of steps, in this process; gives the Trainer."""
    attempt = Attempt(pl.__name__, str(root), steps, **fields)
    monitor = ScalingLawMonitor(fit=False, run=attempt.run) if monitor is None else monitor
    trainer, module = make(pl, attempt, monitor)
    trainer.callbacks[at or 0 : at or 0] = extra
    data = points(BATCH * EPOCH)
    trainer.fit(module, loader(data, shuffle=True), loader(data), ckpt_path=resume)
    return trainer


def fitted(run):
    return [(o.counts.steps, o.counts.samples, o.value, o.lr) for o in run.observations]


def truth(*steps):
    """What is fitted, by what the training does."""
    return [(step, BATCH * step, float(torch.tensor(loss(step))), rate(step)) for step in steps]


def grid(last):
    return truth(*range(EVERY, last + 1, EVERY))


def once(kept):
    """The runs that count, each with its steps."""
    curves = each_once([run_curve(run, "val_loss", "steps")[0] for run in kept.values()])
    return {found.run.split("_")[-1]: [int(x) for x, _ in found.points] for found in curves}


LAST = "ckpt/last.ckpt"


@pytest.mark.parametrize(("flavour", "save", "same"), [(FLAVOURS[0], 7, True), (FLAVOURS[1], 0, False)])
def test_resume_in_the_same_process(tmp_path, flavour, save, same):
    """With the same monitor and another; from a checkpoint of a batch, in an epoch, and of a validation."""
    pl = importlib.import_module(flavour)
    monitor = ScalingLawMonitor(fit=False)
    fit(pl, tmp_path, 14 if save else 12, save=save, monitor=monitor)
    again = monitor if same else ScalingLawMonitor(fit=False)
    fit(pl, tmp_path, 40, save=save, monitor=again, resume=tmp_path / LAST)
    first, second = runs(tmp_path).values()
    assert fitted(first) == grid(12)
    assert fitted(second) == grid(40)
    assert second.info.continues == {"run": first.info.run, "step": 14 if save else 12}
    assert once(runs(tmp_path)) == {"1": list(range(4, 41, 4))}


def test_a_run_that_ended_goes_on_with_a_later_end(pl, tmp_path):
    """`max_steps` raised: by a checkpoint under one name, and by a Trainer that fits twice."""
    fit(pl, tmp_path / "a", 20, run="mine")
    fit(pl, tmp_path / "a", 40, run="mine", resume=tmp_path / "a" / LAST)
    (run,) = runs(tmp_path / "a").values()
    assert (run.state, run.info.attempt, fitted(run)) == ("finished", 2, grid(40))
    trainer = fit(pl, tmp_path / "b", 20)
    trainer.fit_loop.epoch_loop.max_steps = 40
    trainer.fit(trainer.lightning_module, loader(), loader())
    (run,) = runs(tmp_path / "b").values()
    # The Trainer makes new schedulers for its second fit, so that the rates begin anew.
    expected = [(*point[:3], rate(point[0] - 20 * (point[0] > 20))) for point in grid(40)]
    assert (run.state, run.info.attempt, fitted(run)) == ("finished", 2, expected)


def test_a_run_that_ended_and_goes_on_under_another_name_counts_once(pl, tmp_path):
    fit(pl, tmp_path, 20, save=5)
    fit(pl, tmp_path, 40, save=5, resume=tmp_path / LAST)
    assert once(runs(tmp_path)) == {"1": list(range(4, 41, 4))}


@pytest.mark.parametrize("name", ["mine", None])
def test_an_older_checkpoint_gives_up_what_was_measured_since(pl, tmp_path, name):
    """The given up points stay in the records, and are in no fit."""

    class Fail(pl.Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            if trainer.global_step == 22:
                raise ZeroDivisionError

    (tmp_path / "old").mkdir()
    with pytest.raises(ZeroDivisionError):
        fit(pl, tmp_path, 40, run=name, extra=[Fail(), Copy(pl, tmp_path)])
    fit(pl, tmp_path, 34, run=name, resume=tmp_path / "old" / "7.ckpt")
    kept = runs(tmp_path)
    newest = list(kept.values())[-1]
    assert newest.info.continues["step"] == 7
    assert fitted(newest) == grid(32)
    assert list(once(kept).values()) == [list(range(4, 33, 4))]
    lines = [json.loads(line) for path in tmp_path.rglob("*.jsonl") for line in path.open() if line.strip()]
    steps = sorted(line["data"]["counts"]["steps"] for line in lines if line["kind"] == "observation")
    assert steps == sorted([4, 8, 12, 16, 20, *range(8, 33, 4)])


def Copy(pl, root):
    """Keeps a checkpoint of step 7."""

    class Keep(pl.Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            if trainer.global_step == 7:
                (root / "old" / "7.ckpt").write_bytes((root / LAST).read_bytes())

    return Keep()


def test_branches_of_one_run_share_their_past(pl, tmp_path):
    """Two endings of one training: all three finished, so all count, and what they share counts once."""
    fit(pl, tmp_path, 28)
    for steps in (40, 36):
        (tmp_path / "old").mkdir(exist_ok=True)
        path = tmp_path / "old" / f"{steps}.ckpt"
        path.write_bytes((tmp_path / LAST).read_bytes())
        fit(pl, tmp_path, steps, resume=path)
        path.replace(tmp_path / LAST)
    assert once(runs(tmp_path)) == {"1": list(range(4, 41, 4)), "2": [32, 36]}


# Validations that come straight after a resume, before any batch


def fit_texts(pl, root, steps, resume=None, length_fn=None, **options):
    """Texts with a mask; leaves root/mid.ckpt, saved in the middle of the validation after 6 steps."""

    module = make_module(pl)
    validate = module.validation_step

    def validation_step(batch, batch_idx):
        if module.global_step == 6 and batch_idx == 1:
            module.trainer.save_checkpoint(root / "mid.ckpt")
        return validate(batch, batch_idx)

    module.validation_step = validation_step
    monitor = ScalingLawMonitor(fit=False, length_fn=length_fn)
    options = {"max_steps": steps, "max_epochs": None, "val_check_interval": 3, **options}
    trainer = make_trainer(pl, root, monitor, check_val_every_n_epoch=None, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(module, loader(Texts()), loader(Texts()), ckpt_path=resume)
    return monitor


def steps_of(root, attempt):
    """The steps at which an attempt measured."""
    (path,) = root.rglob(f"{attempt:04d}-*.jsonl")
    lines = [json.loads(line) for line in path.open() if line.strip()]
    return [line["data"]["counts"]["steps"] for line in lines if line["kind"] == "observation"]


def test_a_validation_before_the_first_batch_is_recorded_as_its_past_was_counted(pl, tmp_path):
    """Lightning goes back to the validation in which the checkpoint was saved; no batch was seen by then."""
    fit_texts(pl, tmp_path / "whole", 12)
    fit_texts(pl, tmp_path / "cut", 8)
    fit_texts(pl, tmp_path / "cut", 12, tmp_path / "cut" / "mid.ckpt")
    (whole,), (run,) = (read_study(tmp_path / name / "foretrain").runs.values() for name in ("whole", "cut"))
    told = steps_of(tmp_path, 2)
    assert told[0] == 6, "Lightning has not validated before the first batch"
    assert run.info.conventions == whole.info.conventions
    assert run.info.conventions["tokens"] == "attention_mask"
    assert run.counted_otherwise == frozenset()
    planned = [(r.info.planned.samples, r.info.planned.steps) for r in (whole, run)]
    assert planned == [(48, 12)] * 2
    columns = [[(o.counts.steps, o.counts.samples) for o in r.observations] for r in (whole, run)]
    assert columns[0] == columns[1] == [(3, 12), (6, 24), (9, 36), (12, 48)]
    assert [o.counts.tokens for o in run.observations[:2]] == [
        o.counts.tokens for o in whole.observations[:2]
    ]


def twice(batch):
    return 2 * batch["input_ids"].numel()


def test_other_conventions_from_a_resume_on_are_told_apart(pl, tmp_path):
    """Resumed with a `length_fn`: what was counted by the mask is kept, and not fitted with the rest."""
    fit_texts(pl, tmp_path, 8)
    fit_texts(pl, tmp_path, 12, tmp_path / "mid.ckpt", length_fn=twice)
    (run,) = read_study(tmp_path / "foretrain").runs.values()
    assert run.info.conventions["tokens"].startswith("length_fn")
    kept, excluded = usable(run, "val_loss", "tokens")
    assert excluded == {OTHERWISE: 1}
    assert [o.counts.steps for _, o in kept] == steps_of(tmp_path, 2) == [6, 9, 12]
    assert [o.counts.steps for o in run.observations] == [3, 6, 9, 12]


# What is in a checkpoint


PRIMITIVES = (type(None), bool, int, float, str)


def assert_primitive(value):
    """Only what `torch.load(weights_only=True)` takes in every version of torch."""
    if type(value) is dict:
        for name, item in value.items():
            assert type(name) is str
            assert_primitive(item)
    elif type(value) in (list, tuple):
        for item in value:
            assert_primitive(item)
    else:
        assert type(value) in PRIMITIVES, type(value)


def states(path):
    callbacks = torch.load(path, weights_only=True)["callbacks"]
    return {key: state for key, state in callbacks.items() if key.startswith("ScalingLawMonitor")}


def test_the_state_in_a_checkpoint_is_primitive_and_is_resumed_from(pl, tmp_path):
    """Also with tokens that are tensors, functions of the user, and rates that are tensors."""
    monitors = [
        ScalingLawMonitor(fit=False),
        ScalingLawMonitor(
            fit=False, axis="steps", length_fn=lambda batch: batch["attention_mask"].sum(), model_size=7
        ),
    ]

    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = torch.nn.Linear(4, 1)

        def training_step(self, batch, batch_idx):
            return self.net(batch["x"]).square().mean()

        def validation_step(self, batch, batch_idx):
            self.log("val_loss", self.net(batch["x"]).square().mean())

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), torch.tensor(0.01))

    def train(monitors, steps, **options):
        save = pl.callbacks.ModelCheckpoint(tmp_path, save_last=True, every_n_train_steps=1, save_top_k=0)
        options = {"max_epochs": 9, "max_steps": steps, "enable_checkpointing": True, "val_check_interval": 1}
        trainer = make_trainer(pl, tmp_path, [*monitors, save], **options)
        path = tmp_path / "last.ckpt" if steps == 9 else None
        trainer.fit(Module(), loader(Texts()), loader(Texts()), ckpt_path=path, **resume)

    resume = {}
    train(monitors, 7)
    found = states(tmp_path / "last.ckpt")
    assert len(found) == 2
    for state in found.values():
        assert_primitive(state)
        assert state["samples"] == 28 and state["tokens"] > 28
    if "weights_only" in type(make_trainer(pl, tmp_path)).fit.__code__.co_varnames:
        resume = {"weights_only": True}
    train([ScalingLawMonitor(fit=False)], 9)
    ((_, state),) = states(tmp_path / "last.ckpt").items()
    assert state["samples"] == 36


def test_the_check_of_primitives_can_fail():
    for value in (math.inf, [1, ("a", {"b": None})]):
        assert_primitive(value)
    for value in (torch.tensor(1), {1: 2}, [Path("x")], {"a": {1}}):
        with pytest.raises(AssertionError):
            assert_primitive(value)


def test_the_last_rate_is_the_one_used_also_where_the_schedule_is_only_near_it():
    """A validation that comes straight after a resume records it, before any update."""
    recorder = RateRecorder()
    for step in range(1, 23):
        recorder._add(step, rate(step))
    state = json.loads(json.dumps(recorder.to_state()))
    assert_primitive(state)
    near = state["knots"][-1][1]
    assert near != rate(22) and near == pytest.approx(rate(22), rel=1e-3)
    assert RateRecorder.from_state(state, 22).rate == rate(22)
    # Of an earlier version, of another step, or damaged: what the knots say.
    for odd in ({"rate": None}, {"rate": 1.0}, {"rate": "x"}, {"rate": math.nan}):
        assert RateRecorder.from_state({**state, **odd}, 22).rate == near
    assert RateRecorder.from_state(state, 21).rate == pytest.approx(rate(21), rel=1e-3)
