"""Every way to validate: which metric is recorded, when, as what, and by which of several monitors."""

import importlib
import math
import os
import signal
import subprocess
import sys
import warnings
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from torchmetrics import MeanMetric

sys.path.insert(0, str(Path(__file__).parent))
from foretrain.analysis import Question, analyze
from foretrain.lightning import ScalingLawMonitor
from foretrain.lightning.scheme import name_among
from foretrain.lightning.transform import Transform
from lightning_models import FLAVOURS, loader, make_module, make_trainer, only_run, points, read_study
from lightning_models import use_fake_fitter as fake_fitter


@pytest.fixture(params=FLAVOURS)
def pl(request):
    return importlib.import_module(request.param)


@pytest.fixture
def one():
    """One of the two Lightnings, for what does not depend on which."""
    return importlib.import_module(FLAVOURS[0])


def train(pl, root, monitor, module, *, callbacks=(), val=None, ckpt_path=None, **options):
    """Trains on 20 samples in batches of 4; gives the Trainer and the warnings of ours."""
    monitors = monitor if isinstance(monitor, list) else [monitor]
    trainer = make_trainer(pl, root, [*monitors, *callbacks], **options)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.fit(module, loader(), loader() if val is None else val, ckpt_path=ckpt_path)
    return trainer, ours(caught)


def ours(caught):
    """What the monitor warned of; Lightning itself only names its key in checkpoints."""
    told = (str(warning.message) for warning in caught)
    return [text for text in told if "ScalingLawMonitor" in text and "ScalingLawMonitor{" not in text]


def seen(run):
    """What was recorded: (samples, value)."""
    return [(o.counts.samples, pytest.approx(o.value)) for o in run.observations]


# Which hook logs the metric. The n-th call of the hook logs n.


def logging_in(pl, hook, **how):
    """A module that logs "x" in one hook: how often that hook was called in this fit, this time included."""
    module = make_module(pl, values=[None])
    module.calls = 0
    inherited = getattr(module, hook)

    def logs(*args, **kwargs):
        if not module.trainer.sanity_checking:
            module.calls += 1
            module.log("x", float(module.calls), **how)
        return inherited(*args, **kwargs)

    if hook == "training_step":  # Lightning looks at its arguments
        module.training_step = lambda batch, batch_idx: logs(batch, batch_idx)
    elif hook == "validation_step":
        module.validation_step = lambda batch, batch_idx: logs(batch, batch_idx)
    else:
        setattr(module, hook, logs)
    return module


@pytest.mark.parametrize(
    ("hook", "how", "options", "expected"),
    [
        # In validation, where every call belongs to one: 5 batches each, whose mean counts.
        ("on_validation_start", {}, {}, [(20, 1), (40, 2)]),
        ("on_validation_epoch_start", {}, {}, [(20, 1), (40, 2)]),
        ("validation_step", {}, {}, [(20, 3), (40, 8)]),
        ("validation_step", {"on_step": True, "on_epoch": True}, {"val_check_interval": 2},
         [(8, 3), (16, 8), (28, 13), (36, 18)]),
        ("on_validation_batch_end", {"reduce_fx": "max"}, {}, [(20, 5), (40, 10)]),
        ("on_validation_epoch_end", {}, {"val_check_interval": 2}, [(8, 1), (16, 2), (28, 3), (36, 4)]),
        # As an epoch ends: after its last validation, and once, with what the epoch used.
        ("on_train_epoch_end", {}, {}, [(20, 1), (40, 2)]),
        ("on_train_epoch_end", {}, {"val_check_interval": 2}, [(20, 1), (40, 2)]),
        ("on_train_epoch_end", {}, {"check_val_every_n_epoch": 2, "max_epochs": 4}, [(40, 2), (80, 4)]),
        # In training: what the last batch before a validation logged.
        ("training_step", {}, {}, [(20, 5), (40, 10)]),
        ("training_step", {}, {"val_check_interval": 2}, [(8, 2), (16, 4), (28, 7), (36, 9)]),
        ("on_train_batch_end", {}, {"val_check_interval": 2}, [(8, 2), (16, 4), (28, 7), (36, 9)]),
        # The mean over the epoch.
        ("training_step", {"on_step": False, "on_epoch": True}, {}, [(20, 3), (40, 8)]),
    ],
)  # fmt: skip
def test_a_metric_is_recorded_with_the_counts_of_when_it_was_logged(
    one, tmp_path, hook, how, options, expected
):
    module = logging_in(one, hook, **how)
    monitor = ScalingLawMonitor("x", fit=False)
    train(one, tmp_path, monitor, module, **{"max_epochs": 2, "num_sanity_val_steps": 1, **options})
    run = only_run(tmp_path)
    assert seen(run) == expected
    assert [o.counts.epochs for o in run.observations] == pytest.approx([n / 20 for n, _ in expected])
    assert [o.counts.steps for o in run.observations] == [n // 4 for n, _ in expected]


def test_what_no_validation_logs_is_not_passed_off_as_its_own(one, tmp_path):
    """Logged in every third batch: a validation after another one has nothing new to record."""
    module = make_module(one, values=[None])
    inherited = module.training_step

    def training_step(batch, batch_idx):
        if batch_idx % 3 == 2:
            module.log("x", float(batch_idx))
        return inherited(batch, batch_idx)

    module.training_step = training_step
    monitor = ScalingLawMonitor("x", fit=False)
    options = {"max_epochs": 1, "val_check_interval": 1}
    trainer = make_trainer(one, tmp_path, monitor, **options)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.fit(module, loader(points(48)), loader())
    # Batches 3, 6, 9 and 12 log. By which batch the first value came is not known yet when it is found.
    assert seen(only_run(tmp_path)) == [(24, 5), (36, 8), (48, 11)]
    said = ours(caught)
    assert len(said) == 2
    assert "expects the metric `x`, which was not logged in this validation" in said[0]
    assert "was logged outside of it: only what is logged by the batch before a validation" in said[1]


def test_another_callback_may_log_it(pl, tmp_path):
    class Other(pl.Callback):
        def on_validation_epoch_end(self, trainer, module):
            module.log("x", torch.tensor(0.25))

    monitor = ScalingLawMonitor("x", fit=False)
    _, said = train(pl, tmp_path, monitor, make_module(pl, values=[None]), callbacks=[Other()])
    assert seen(only_run(tmp_path)) == [(20, 0.25)]
    assert said == []


def test_torchmetrics_objects(pl, tmp_path):
    module = make_module(pl, values=[None])
    module.mean = MeanMetric()

    def validation_step(batch, batch_idx):
        module.mean.update(float(batch_idx))
        module.log("x", module.mean, on_epoch=True)

    module.validation_step = validation_step
    _, said = train(pl, tmp_path, ScalingLawMonitor("x", fit=False), module, max_epochs=2)
    assert seen(only_run(tmp_path)) == [(20, 2.0), (40, 2.0)]
    assert said == []


def test_a_number_that_a_callback_puts_there(one, tmp_path):
    class Other(one.Callback):
        def on_validation_epoch_end(self, trainer, module):
            trainer.callback_metrics["x"] = 0.25

    monitor = ScalingLawMonitor("x", fit=False)
    train(one, tmp_path, monitor, make_module(one, values=[None]), callbacks=[Other()], max_epochs=2)
    assert seen(only_run(tmp_path)) == [(20, 0.25), (40, 0.25)]


def test_a_metric_logged_by_step_alone_is_explained(one, tmp_path):
    module = logging_in(one, "validation_step", on_step=True, on_epoch=False)
    _, said = train(one, tmp_path, ScalingLawMonitor("x", fit=False), module, max_epochs=2)
    assert len(said) == 1
    assert "the metric `x` once for a whole validation, but it was logged by step alone" in said[0]
    assert not (tmp_path / "foretrain").exists()


@pytest.mark.parametrize("suffix", [True, False])
def test_several_validation_loaders(pl, tmp_path, suffix):
    module = make_module(pl, values=[None])

    def validation_step(batch, batch_idx, dataloader_idx=0):
        name = "x" if suffix else f"x_{dataloader_idx}"
        module.log(name, float(dataloader_idx + 1), add_dataloader_idx=suffix)

    module.validation_step = validation_step
    name = "x/dataloader_idx_1" if suffix else "x_1"
    monitor = ScalingLawMonitor(name, fit=False)
    _, said = train(pl, tmp_path, monitor, module, val=[loader(), loader(points(8))], max_epochs=2)
    assert seen(only_run(tmp_path)) == [(20, 2.0), (40, 2.0)]
    assert said == []


def test_without_the_loaders_number_the_names_there_are_are_listed_once(one, tmp_path):
    module = make_module(one, values=[None])

    def validation_step(batch, batch_idx, dataloader_idx=0):
        module.log("x", 1.0)

    module.validation_step = validation_step
    monitor = ScalingLawMonitor("x", fit=False)
    _, said = train(one, tmp_path, monitor, module, val=[loader(), loader()], max_epochs=3)
    assert len(said) == 1
    assert "Logged are: x/dataloader_idx_0, x/dataloader_idx_1. Pass one of them as `monitor`." in said[0]


def test_validation_by_the_clock(one, tmp_path):
    """Lightning takes an interval of time in its newer versions: every batch is later than none."""
    try:
        make_trainer(one, tmp_path, val_check_interval=timedelta(seconds=1))
    except Exception as error:
        pytest.skip(f"this Lightning takes no time as an interval: {error}")
    done = []

    class Count(one.Callback):
        def on_validation_end(self, trainer, module):
            done.append(4 * trainer.global_step)

        def on_train_batch_end(self, trainer, module, *_):
            trainer._last_val_time -= 0.6  # seconds by which the clock advances

    monitor = ScalingLawMonitor(fit=False)
    options = {"val_check_interval": timedelta(seconds=1), "max_epochs": 2}
    train(one, tmp_path, monitor, make_module(one), callbacks=[Count()], **options)
    assert [o.counts.samples for o in only_run(tmp_path).observations] == done
    assert len(done) >= 4


def test_every_validation_of_a_crossed_epoch_is_recorded(one, tmp_path):
    options = {"max_epochs": -1, "max_steps": 11, "val_check_interval": 3, "check_val_every_n_epoch": None}
    train(one, tmp_path, ScalingLawMonitor(fit=False), make_module(one, values=[0.3, None, 0.1]), **options)
    assert seen(only_run(tmp_path)) == [(12, 0.3), (36, 0.1)]


@pytest.mark.parametrize("stage", ["validate", "test", "predict"])
def test_stages_alone_record_nothing_before_and_after_a_fit(pl, tmp_path, stage):
    module = make_module(pl)
    module.test_step = module.validation_step
    module.predict_step = lambda batch, batch_idx: module.net(batch[0])
    monitor = ScalingLawMonitor(fit=False)
    trainer = make_trainer(pl, tmp_path, monitor)
    quiet = {} if stage == "predict" else {"verbose": False}
    getattr(trainer, stage)(module, loader(), **quiet)
    assert not (tmp_path / "foretrain").exists()
    trainer.fit(module, loader(), loader())
    before = only_run(tmp_path)
    getattr(trainer, stage)(module, loader(), **quiet)
    assert only_run(tmp_path) == before
    assert [o.counts.samples for o in before.observations] == [20]
    assert before.state == "finished"
    assert monitor.state_dict()["samples"] == 20


# Metrics that grow.


@pytest.mark.parametrize(
    ("bound", "logged", "errors", "name"),
    [
        (None, [0.25, 0.5, 1.0, 0.75], [0.75, 0.5, 0.0, 0.25], "1 - acc"),
        (100, [25.0, 50.0, 100.0, 75.0], [75.0, 50.0, 0.0, 25.0], "100 - acc"),
        (0.0, [-4.0, -2.0, 0.0, -1.0], [4.0, 2.0, 0.0, 1.0], "0 - acc"),
    ],
)
def test_a_metric_that_grows_is_recorded_as_an_error(pl, tmp_path, bound, logged, errors, name):
    module = make_module(pl, values=logged, name="acc")
    monitor = ScalingLawMonitor("acc", mode="max", bound=bound, fit=False)
    _, said = train(pl, tmp_path, monitor, module, max_epochs=4)
    run = only_run(tmp_path)
    assert [o.metric for o in run.observations] == [name] * 4
    assert [o.value for o in run.observations] == errors
    assert [o.logged for o in run.observations] == logged
    assert run.info.conventions["metric"] == name
    assert said == []
    # What reports, tables and the tab are labelled with; a perfect score is kept, and no law takes it.
    report = analyze({run.info.run: run}, Question(run.info.run, metric=name))
    assert report.metric == name
    assert [value for _, value in report.points] == [e for e in errors if e > 0]
    assert report.excluded == {"not positive": 1}


def test_the_question_names_the_error(one, tmp_path, monkeypatch):
    fitter = fake_fitter(monkeypatch)
    module = make_module(one, values=[0.5], name="acc")
    train(one, tmp_path, ScalingLawMonitor("acc", mode="max"), module)
    assert fitter.made[0].requests[0]["question"]["metric"] == "1 - acc"


def test_not_a_number_stays_one(one, tmp_path):
    module = make_module(one, values=[math.nan, math.inf, 0.5], name="acc")
    train(one, tmp_path, ScalingLawMonitor("acc", mode="max", fit=False), module, max_epochs=3)
    found = only_run(tmp_path).observations
    assert [o.value for o in found] == pytest.approx([math.nan, -math.inf, 0.5], nan_ok=True)
    assert [o.logged for o in found] == pytest.approx([math.nan, math.inf, 0.5], nan_ok=True)


def test_percents_are_not_guessed_but_said_once(one, tmp_path):
    module = make_module(one, values=[43.0, 44.0], name="acc")
    monitor = ScalingLawMonitor("acc", mode="max", fit=False)
    _, said = train(one, tmp_path, monitor, module, max_epochs=2)
    assert len(said) == 1
    assert "expects `acc` to be at most 1, got 43" in said[0]
    assert "for instance bound=100 for percents" in said[0]
    assert [o.value for o in only_run(tmp_path).observations] == [-42.0, -43.0]


def test_rounding_is_no_score_above_the_bound():
    above = float(torch.tensor(1.0) + torch.finfo(torch.float32).eps)
    assert above > 1
    transform = Transform.of("acc", "max", None)
    assert transform.error(above) == 0.0 and transform.doubt(above) is None
    assert transform.error(1 + 1e-5) == pytest.approx(-1e-5) and transform.doubt(1 + 1e-5) is not None
    assert transform.error(1 - 1e-7) == pytest.approx(1e-7)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"mode": "maximum"}, 'Expected `mode` to be "min" or "max", got \'maximum\''),
        ({"mode": None}, 'Expected `mode` to be "min" or "max", got None'),
        ({"bound": 100}, 'Expected no `bound` with mode="min", got 100'),
        ({"mode": "max", "bound": math.inf}, "Expected `bound` to be a finite number, got inf"),
        ({"mode": "max", "bound": "100"}, "Expected `bound` to be a finite number, got '100'"),
        ({"mode": "max", "bound": True}, "Expected `bound` to be a finite number, got True"),
        ({"name": " "}, "Expected `name` to be a text that is not empty, got ' '"),
    ],
)
def test_arguments_that_cannot_be_meant(arguments, words):
    with pytest.raises(ValueError, match=words):
        ScalingLawMonitor("acc", **arguments)


# Several monitors in one Trainer.


def two_metrics(pl, losses=(0.5, 0.4, 0.3, 0.2), scores=(0.1, 0.2, 0.3, 0.4)):
    """A module that logs "loss" and "acc", each from its list, at the validation of that number."""
    module = make_module(pl, values=[None])

    def on_validation_epoch_end():
        at = module.trainer.global_step // 5 - 1
        module.log("loss", losses[at])
        module.log("acc", scores[at])

    module.on_validation_epoch_end = on_validation_epoch_end
    return module


class Named:
    """A logger that keeps what it is told."""

    def __init__(self, pl):
        class Logger(pl.loggers.logger.Logger):
            name = version = save_dir = None

            def __init__(self):
                super().__init__()
                self.told = {}

            def log_metrics(self, metrics, step=None):
                self.told |= {name: value for name, value in metrics.items() if name.startswith("scaling")}

            def log_hyperparams(self, *args, **kwargs):
                pass

        self.logger = Logger()


MONITORS = {
    "two metrics": ([{"monitor": "loss"}, {"monitor": "acc", "mode": "max"}], ["loss/", "acc/"]),
    "two studies": ([{"monitor": "loss"}, {"monitor": "loss", "study": "b"}], ["default/", "b/"]),
    "two axes": ([{"monitor": "loss"}, {"monitor": "loss", "axis": "steps"}], ["None/", "steps/"]),
    "other targets": (
        [{"monitor": "loss"}, {"monitor": "loss", "targets": [1e6], "name": "far"}],
        ["", "far/"],
    ),
    "all at once": (
        [{"monitor": "loss"}, {"monitor": "loss", "axis": "steps"}, {"monitor": "acc", "mode": "max"}],
        ["1/", "2/", "3/"],
    ),
}


@pytest.mark.parametrize("case", MONITORS)
def test_several_monitors_are_kept_apart(one, tmp_path, monkeypatch, case):
    arguments, labels = MONITORS[case]
    fitter = fake_fitter(monkeypatch)
    told = Named(one)
    monitors = [ScalingLawMonitor(**options) for options in arguments]
    train(one, tmp_path, monitors, two_metrics(one), max_epochs=2, logger=told.logger)
    assert len(fitter.made) == len(monitors)
    for options, label, monitor in zip(arguments, labels, monitors, strict=True):
        study = read_study(tmp_path / "foretrain", options.get("study", "default"))
        (run,) = study.runs.values()  # nobody named it, and yet it is one for all
        error = "1 - acc" if options["monitor"] == "acc" else "loss"
        found = [(o.counts.samples, o.value) for o in run.observations if o.metric == error]
        expected = [(20, 0.9), (40, 0.8)] if error == "1 - acc" else [(20, 0.5), (40, 0.4)]
        assert found == [(n, pytest.approx(value)) for n, value in expected]
        assert monitor.report.metric == error
        assert monitor.report.axis == options.get("axis", "samples")
        assert told.logger.told[f"scaling/{label}projected_2x"] == 0.5
        assert (f"scaling/{label}projected_1e6_samples" in told.logger.told) == ("targets" in options)
    names = {name.rpartition("/")[0] + "/" for name in told.logger.told if name.startswith("scaling")}
    assert names == {f"scaling/{label}{group}" for label in labels for group in ("", "flags/")}


def test_names_are_what_every_logger_accepts():
    settings = [ScalingLawMonitor(name).settings for name in ("val loss [%]", "val/loss")]
    assert name_among(settings[0], settings).prefix == "scaling/val_loss_/"
    assert name_among(settings[1], settings).prefix == "scaling/val/loss/"
    alike = [ScalingLawMonitor(name).settings for name in ("a b", "a_b")]
    assert [name_among(own, alike).prefix for own in alike] == ["scaling/1/", "scaling/2/"]


def test_two_reports_on_one_metric_stand_together_in_tensorboard(one, tmp_path, monkeypatch):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    fake_fitter(monkeypatch)
    logger = one.loggers.TensorBoardLogger(tmp_path)
    monitors = [ScalingLawMonitor(), ScalingLawMonitor(name="far", targets=[1e6])]
    train(one, tmp_path, monitors, make_module(one), logger=logger)
    events = accumulator.EventAccumulator(logger.log_dir)
    events.Reload()
    tags = set(events.PluginTagToContent("foretrain"))
    assert tags == {"foretrain/report/val_loss", "foretrain/report/val_loss (far)"}


def test_monitors_of_one_name_are_refused_as_lightning_refuses_them(one, tmp_path):
    with pytest.raises(RuntimeError, match="more than one stateful callback of type `ScalingLawMonitor`"):
        make_trainer(one, tmp_path, [ScalingLawMonitor(), ScalingLawMonitor(targets=[1e6])])


def checkpoints(pl, root):
    """Keeps a checkpoint of the end of the last epoch, `root`/last.ckpt."""
    return pl.callbacks.ModelCheckpoint(root, save_last=True, save_on_train_epoch_end=True)


def both(**options):
    return [
        ScalingLawMonitor("loss", fit=False, **options),
        ScalingLawMonitor("acc", mode="max", fit=False, **options),
    ]


def train_two(flavour, root, epochs, *, ckpt_path=None, die_at=None):
    """Trains with two monitors in one checkpoint; kills its own process in a batch if told to."""
    pl = importlib.import_module(flavour)

    class Die(pl.Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            if trainer.global_step == die_at:
                os.kill(os.getpid(), signal.SIGKILL)

    options = {"max_epochs": epochs, "enable_checkpointing": True}
    callbacks = [Die(), checkpoints(pl, root)]
    return train(
        pl, root, both(run="r"), two_metrics(pl), callbacks=callbacks, ckpt_path=ckpt_path, **options
    )


def test_two_monitors_killed_and_resumed_are_as_if_never_stopped(tmp_path):
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n" + (
        "from test_lightning_validation import train_two\n"
        f"train_two({FLAVOURS[0]!r}, {str(tmp_path / 'killed')!r}, 4, die_at=12)"
    )
    died = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert died.returncode == -signal.SIGKILL, died.stderr[-2000:]
    _, said = train_two(FLAVOURS[0], tmp_path / "killed", 4, ckpt_path=tmp_path / "killed" / "last.ckpt")
    assert said == []
    train_two(FLAVOURS[0], tmp_path / "whole", 4)
    found, whole = (
        [replace(o, time=None, attempt=1) for o in only_run(tmp_path / name).observations]
        for name in ("killed", "whole")
    )
    key = lambda o: (o.metric, o.counts.steps)  # noqa: E731
    assert sorted(found, key=key) == sorted(whole, key=key)
    assert sorted((o.metric, o.counts.samples) for o in found) == [
        (metric, samples) for metric in ("1 - acc", "loss") for samples in (20, 40, 60, 80)
    ]


@pytest.mark.parametrize(
    "changes", [{"monitor": "acc", "mode": "max"}, {"axis": "steps"}, {"study": "b"}, {"name": "far"}]
)
def test_a_run_resumed_with_another_monitor_goes_on_counting(one, tmp_path, changes):
    save = {"enable_checkpointing": True}
    first = ScalingLawMonitor("loss", fit=False)
    train(one, tmp_path, first, two_metrics(one), callbacks=[checkpoints(one, tmp_path)], **save)
    options = {"monitor": "loss", "fit": False, "root": tmp_path / "other", **changes}
    module, path = two_metrics(one), tmp_path / "last.ckpt"
    _, said = train(one, tmp_path, ScalingLawMonitor(**options), module, max_epochs=2, ckpt_path=path)
    (run,) = read_study(tmp_path / "other", changes.get("study", "default")).runs.values()
    assert [o.counts.samples for o in run.observations] == [40]
    assert said == []


def test_the_key_in_checkpoints_stays_what_it_was():
    # Checkpoints hold it: a change would make every earlier one one without counts.
    assert ScalingLawMonitor().state_key == "ScalingLawMonitor{'monitor': 'val_loss', 'axis': None}"
    alike = ScalingLawMonitor(targets=[1e6], target_params=[1e9], run="r", fit=False, final_wait=1.0)
    assert alike.state_key == ScalingLawMonitor().state_key
