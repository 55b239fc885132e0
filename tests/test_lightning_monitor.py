"""The callback in a Trainer of either Lightning: what it counts, records, asks, logs, and resumes."""

import copy
import csv
import importlib
import math
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from foretrain.flags import Flag, FlagKind, Severity
from foretrain.lightning import ScalingLawMonitor
from foretrain.report import JointReport, NamedProjection, Report
from lightning_models import (
    FLAVOURS,
    Texts,
    a_report,
    loader,
    make_module,
    make_trainer,
    make_witness,
    only_run,
    points,
    read_study,
    use_fake_fitter,
)


@pytest.fixture(params=FLAVOURS)
def pl(request):
    return importlib.import_module(request.param)


@pytest.fixture
def fitter(monkeypatch):
    return use_fake_fitter(monkeypatch)


def fit(pl, root, monitor=None, *, module=None, train=None, val=None, **options):
    """Trains, and gives the Trainer and the warnings of ours."""
    monitor = ScalingLawMonitor(fit=False) if monitor is None else monitor
    ckpt_path = options.pop("ckpt_path", None)
    trainer = make_trainer(pl, root, monitor, **options)
    module = make_module(pl) if module is None else module
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.fit(
            module,
            loader() if train is None else train,
            loader() if val is None else val,
            ckpt_path=ckpt_path,
        )
    return trainer, [str(w.message) for w in caught if "ScalingLawMonitor" in str(w.message)]


def column(run, name):
    return [getattr(observation.counts, name) for observation in run.observations]


# What is counted. 20 samples in batches of 4 unless said: 5 batches in an epoch.


@pytest.mark.parametrize(
    ("options", "samples", "steps", "epochs"),
    [
        ({"max_epochs": 3}, [20, 40, 60], [5, 10, 15], [1, 2, 3]),
        ({"max_epochs": 2, "val_check_interval": 2}, [8, 16, 28, 36], [2, 4, 7, 9], [0.4, 0.8, 1.4, 1.8]),
        ({"max_epochs": 1, "val_check_interval": 0.5}, [8, 16], [2, 4], [0.4, 0.8]),
        ({"max_epochs": 2, "accumulate_grad_batches": 2}, [20, 40], [3, 6], [1, 2]),
        ({"accumulate_grad_batches": 2, "val_check_interval": 1}, [4, 12, 16, 20], [0, 1, 2, 3], None),
        ({"max_epochs": -1, "max_steps": 7, "val_check_interval": 3, "check_val_every_n_epoch": None},
         [12, 24], [3, 6], [0.6, 1.2]),
        ({"max_epochs": 2, "limit_train_batches": 3}, [12, 24], [3, 6], [1, 2]),
        ({"max_epochs": 4, "check_val_every_n_epoch": 2}, [40, 80], [10, 20], [2, 4]),
    ],
)  # fmt: skip
def test_counts(pl, tmp_path, options, samples, steps, epochs):
    fit(pl, tmp_path, **options)
    run = only_run(tmp_path)
    by_step = dict(zip(column(run, "steps"), column(run, "samples"), strict=True))
    assert by_step == dict(zip(steps, samples, strict=True))
    if epochs is not None:
        assert column(run, "epochs") == pytest.approx(epochs)
    assert run.state == "finished"


def test_the_last_batch_may_be_short(pl, tmp_path):
    fit(pl, tmp_path, train=loader(batch_size=8), max_epochs=2)
    run = only_run(tmp_path)
    assert column(run, "samples") == [20, 40]
    assert column(run, "unique_samples") == [20, 20]
    assert run.info.planned.samples == 40


@pytest.mark.parametrize("drop_last", [True, False])
def test_distinct_samples(pl, tmp_path, drop_last):
    train = loader(batch_size=8, drop_last=drop_last, shuffle=True)
    fit(pl, tmp_path, train=train, max_epochs=3)
    # With drop_last every epoch leaves out four others: after one epoch the distinct ones are not known.
    expected = [16, None, None] if drop_last else [20, 20, 20]
    assert column(only_run(tmp_path), "unique_samples") == expected


def test_distinct_samples_in_order(pl, tmp_path):
    fit(pl, tmp_path, train=loader(batch_size=8, drop_last=True), max_epochs=2)
    assert column(only_run(tmp_path), "unique_samples") == [16, 16]


def test_texts_count_tokens(pl, tmp_path, fitter):
    fit(pl, tmp_path, ScalingLawMonitor(), train=loader(Texts()), val=loader(Texts()), max_epochs=2)
    run = only_run(tmp_path)
    tokens = sum(1 + i % 8 for i in range(20))
    assert column(run, "tokens") == [tokens, 2 * tokens]
    assert column(run, "samples") == [20, 40]
    assert column(run, "flops") == [6 * 5 * tokens, 6 * 5 * 2 * tokens]
    assert run.info.planned.tokens == 2 * tokens
    assert run.info.conventions["tokens"] == "attention_mask"
    assert run.info.conventions["flops"] == "6 * params * tokens"
    assert fitter.made[0].requests[0]["question"]["axis"] == "tokens"


def test_functions_of_the_user(pl, tmp_path):
    monitor = ScalingLawMonitor(
        fit=False, batch_size_fn=lambda batch: 2 * len(batch[0]), length_fn=lambda batch: batch[0].numel(),
        model_size=lambda module: 100, flops_per_sample=7.0,
    )  # fmt: skip
    fit(pl, tmp_path, monitor, max_epochs=2)
    run = only_run(tmp_path)
    assert column(run, "samples") == [40, 80]
    assert column(run, "tokens") == [80, 160]
    assert column(run, "unique_samples") == [None, None]
    assert column(run, "params") == [100, 100]
    assert column(run, "params_total") == [5, 5]
    assert column(run, "flops") == [280.0, 560.0]
    assert (run.info.planned.samples, run.info.planned.tokens) == (80, 160)
    conventions = run.info.conventions
    assert {name: conventions[name].partition(" ")[0] for name in conventions} == {
        "params": "model_size", "samples": "batch_size_fn", "tokens": "length_fn",
        "flops": "flops_per_sample", "metric": "val_loss", "schedule": "constant",
    }  # fmt: skip


def test_two_optimizers_in_manual_optimization(pl, tmp_path):
    fit(pl, tmp_path, module=make_module(pl, manual=2), max_epochs=2)
    run = only_run(tmp_path)
    assert column(run, "samples") == [20, 40]
    assert column(run, "steps") == [10, 20]  # as Lightning counts: each optimizer's
    assert (run.info.planned.samples, run.info.planned.steps) == (40, 20)


class Endless(torch.utils.data.IterableDataset):
    def __init__(self, n):
        self.n = n

    def __iter__(self):
        return ((torch.ones(4), torch.ones(1)) for _ in range(self.n))


def test_a_stream_without_length(pl, tmp_path):
    fit(pl, tmp_path, train=loader(Endless(10)), max_epochs=2)
    run = only_run(tmp_path)
    assert column(run, "samples") == [10, 20]
    assert column(run, "epochs") == [1, 2]
    assert column(run, "unique_samples") == [None, None]
    assert run.info.planned is None


def test_a_stream_with_an_end_in_steps(pl, tmp_path):
    train = loader(Endless(10**9))
    options = {"max_epochs": -1, "max_steps": 6, "val_check_interval": 2, "accumulate_grad_batches": 2}
    fit(pl, tmp_path, train=train, **options)
    planned = only_run(tmp_path).info.planned
    assert (planned.samples, planned.steps, planned.unique_samples) == (48, 6, None)


@pytest.mark.parametrize(
    ("options", "samples", "steps"),
    [
        ({"max_epochs": 3}, 60, 15),
        ({"max_epochs": 3, "accumulate_grad_batches": 2}, 60, 9),
        ({"max_epochs": 3, "max_steps": 7}, 28, 7),
        ({"max_epochs": 3, "max_steps": 4, "accumulate_grad_batches": 2}, 28, 4),
        ({"max_epochs": 3, "limit_train_batches": 2}, 24, 6),
    ],
)
def test_the_plan_is_what_happens(pl, tmp_path, options, samples, steps):
    trainer, _ = fit(pl, tmp_path, val_check_interval=1, **options)
    run = only_run(tmp_path)
    assert (run.info.planned.samples, run.info.planned.steps) == (samples, steps)
    assert trainer.global_step == steps
    assert column(run, "samples")[-1] == samples


def test_a_plan_without_end(pl, tmp_path):
    class Stop(pl.Callback):
        def on_train_epoch_end(self, trainer, module):
            trainer.should_stop = trainer.current_epoch >= 1

    fit(pl, tmp_path, [ScalingLawMonitor(fit=False), Stop()], max_epochs=-1)
    assert only_run(tmp_path).info.planned is None


def test_the_learning_rate_is_that_of_the_last_update(pl, tmp_path):
    rates = [1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7]
    fit(pl, tmp_path, module=make_module(pl, rates=rates), val_check_interval=1)
    run = only_run(tmp_path)
    assert [o.lr for o in run.observations] == pytest.approx(rates[:5])
    assert run.info.conventions["schedule"] == "LambdaLR"


def test_models_built_late(pl, tmp_path):
    module = make_module(pl)
    module.net[1] = torch.nn.LazyLinear(1)
    fit(pl, tmp_path, module=module)
    assert column(only_run(tmp_path), "params") == [5]


# When it records.


def test_only_validations_of_fit_are_recorded(pl, tmp_path):
    monitor = ScalingLawMonitor(fit=False)
    trainer, _ = fit(pl, tmp_path, monitor, num_sanity_val_steps=2, max_epochs=2)
    assert len(only_run(tmp_path).observations) == 2
    trainer.validate(trainer.model, loader(), verbose=False)
    assert len(only_run(tmp_path).observations) == 2


@pytest.mark.parametrize("options", [{"fast_dev_run": True}, {"fast_dev_run": 3}])
def test_a_development_run_leaves_no_trace(pl, tmp_path, fitter, options):
    fit(pl, tmp_path, ScalingLawMonitor(), **options)
    assert not (tmp_path / "foretrain").exists()
    assert fitter.made == []


def test_a_run_that_measures_nothing_is_not_recorded(pl, tmp_path):
    _, said = fit(pl, tmp_path, limit_val_batches=0)
    assert len(said) == 1
    assert "has no validation" in said[0]
    assert not (tmp_path / "foretrain").exists()


def test_a_run_that_overfits_on_purpose_is_compared_with_no_other(pl, tmp_path):
    _, said = fit(pl, tmp_path, overfit_batches=2, max_epochs=3)
    run = only_run(tmp_path)
    assert said == []
    assert column(run, "samples") == [8, 16, 24]
    assert column(run, "unique_samples") == [8, 8, 8]
    assert run.info.conventions["data"] == "overfit_batches=2"


def test_a_missing_metric_is_said_once_with_those_there_are(pl, tmp_path):
    _, said = fit(pl, tmp_path, module=make_module(pl, name="val_error"), max_epochs=3)
    assert len(said) == 1
    assert "expects the metric `val_loss`" in said[0]
    assert "Logged are: val_error." in said[0]
    assert not (tmp_path / "foretrain").exists()


def test_stale_values_are_skipped_and_nan_is_kept(pl, tmp_path):
    module = make_module(pl, values=[0.5, None, 0.5, math.nan, None, math.inf, 0.25])
    _, said = fit(pl, tmp_path, module=module, max_epochs=7)
    run = only_run(tmp_path)
    assert [o.value for o in run.observations] == pytest.approx(
        [0.5, 0.5, math.nan, math.inf, 0.25], nan_ok=True
    )
    assert column(run, "samples") == [20, 60, 80, 120, 140]
    assert said == []


def test_a_doubtful_batch_size_is_said(pl, tmp_path):
    def rows(items):  # a batch of four items whose first tensor is not as long
        x, y = (torch.stack(parts) for parts in zip(*items, strict=True))
        return torch.zeros(1), x, y

    module = make_module(pl)
    module.loss = lambda batch: type(module).loss(module, batch[1:])
    _, said = fit(pl, tmp_path, module=module, train=loader(collate_fn=rows), val=loader(collate_fn=rows))
    assert len(said) == 1
    assert "counts 1 samples in a batch, but the data loader's `batch_size` is 4" in said[0]
    assert column(only_run(tmp_path), "unique_samples") == [None]


def test_batches_without_a_tensor_fall_back_to_steps(pl, tmp_path, fitter):
    def texts(items):
        return {"texts": "no tensor"}

    module = make_module(pl, values=[0.5])
    module.loss = lambda batch: module.net(torch.ones(1, 4)).mean()
    train = loader(collate_fn=texts, batch_size=4)
    _, said = fit(pl, tmp_path, ScalingLawMonitor(), module=module, train=train, val=loader(collate_fn=texts))
    assert any("pass `batch_size_fn`" in sentence for sentence in said)
    assert fitter.made[0].requests[0]["question"]["axis"] == "steps"
    assert column(only_run(tmp_path), "steps") == [5]


def test_it_says_what_it_counts(pl, tmp_path, caplog):
    caplog.set_level("INFO")
    fit(pl, tmp_path)
    assert caplog.text.count("ScalingLawMonitor counts 4 samples (first tensor) in the first batch.") == 1


# Where it is kept, and what is logged.


def test_runs_logged_together_form_a_study(pl, tmp_path):
    for _ in range(2):
        logger = pl.loggers.TensorBoardLogger(tmp_path, name="sweep")
        fit(pl, tmp_path, logger=logger)
    assert set(read_study(tmp_path / "foretrain").runs) == {"sweep/version_0", "sweep/version_1"}


def test_root_run_and_study_of_the_user(pl, tmp_path):
    for run in ("a", "b"):
        fit(pl, tmp_path, ScalingLawMonitor(fit=False, root=tmp_path / "mine", run=run, study="widths"))
    assert set(read_study(tmp_path / "mine", "widths").runs) == {"a", "b"}


def read_csv(logger):
    with Path(logger.log_dir, "metrics.csv").open() as file:
        return [row for row in csv.DictReader(file) if row.get("scaling/projected_2x")]


def test_projections_in_a_csv_file(pl, tmp_path, fitter):
    logger = pl.loggers.CSVLogger(tmp_path)
    fit(pl, tmp_path, ScalingLawMonitor(targets=[1e6]), logger=logger, max_epochs=3)
    rows = read_csv(logger)
    assert float(rows[0]["scaling/projected_10x"]) == 0.5
    assert float(rows[0]["scaling/projected_end_lower"]) == 0.4
    assert float(rows[0]["scaling/projected_end_upper"]) == 0.6
    assert float(rows[0]["scaling/flags/critical"]) == 0
    # Named in the first row, though no report knew it.
    assert rows[0]["scaling/projected_1e6_samples"] == "nan"
    assert rows[1]["scaling/projected_1e6_samples"] == ""
    # In step with what Lightning logs itself: batches that stepped.
    assert [int(row["step"]) for row in rows] == [4, 9, 14]


def test_projections_in_tensorboard(pl, tmp_path, fitter):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    logger = pl.loggers.TensorBoardLogger(tmp_path)
    fit(pl, tmp_path, ScalingLawMonitor(), logger=logger, max_epochs=3)
    events = accumulator.EventAccumulator(logger.log_dir)
    events.Reload()
    scalars = events.Tags()["scalars"]
    assert {"scaling/projected_2x", "scaling/projected_100x_upper", "scaling/projected_end"} <= set(scalars)
    assert [event.step for event in events.Scalars("scaling/projected_2x")] == [4, 9, 14]
    assert [event.step for event in events.Scalars("val_loss")] == [4, 9, 14]
    (tag,) = events.PluginTagToContent("foretrain")
    assert "val_loss" in tag
    # Not each of the three reports, all within a moment, but the first and the last, with how it ended.
    tensors = events.Tensors(tag)
    assert [event.step for event in tensors] == [4, 15]
    reports = [Report.from_json(event.tensor_proto.string_val[0]) for event in tensors]
    assert [report.state for report in reports] == ["running", "finished"]


def test_a_late_report_is_logged_at_the_step_of_its_adoption(pl, tmp_path, monkeypatch):
    fitter = use_fake_fitter(monkeypatch, delay=2)
    logger = pl.loggers.CSVLogger(tmp_path)
    options = {"max_epochs": 1, "val_check_interval": 40, "logger": logger}
    fit(pl, tmp_path, ScalingLawMonitor(), train=loader(points(400)), **options)
    # Asked after batch 40 and 80; looked after at once, then every 16th batch: 48 and 64, 96.
    assert [int(row["step"]) for row in read_csv(logger)] == [63, 100]
    assert fitter.made[0].polls < 12


def test_every_logger_is_served_and_a_broken_one_is_said_once(pl, tmp_path, fitter):
    class Broken(pl.loggers.CSVLogger):
        def log_metrics(self, metrics, step=None):
            if any(name.startswith("scaling") for name in metrics):
                raise OSError("no space left")

    good = pl.loggers.CSVLogger(tmp_path, name="good")
    _, said = fit(
        pl, tmp_path, ScalingLawMonitor(), logger=[Broken(tmp_path, name="broken"), good], max_epochs=3
    )
    assert len(said) == 1
    assert "could not log through Broken (OSError: no space left)" in said[0]
    assert len(read_csv(good)) == 3


def test_flags_are_said_once_and_counted(pl, tmp_path, monkeypatch):
    flags = (
        Flag(FlagKind.ABOVE_FAMILY, 5, "It is 12 % above."),
        Flag(FlagKind.UNEXPECTEDLY_GOOD, 7, "It is 9 % below.", {}, Severity.NOTICE),
    )
    use_fake_fitter(monkeypatch, changes={"flags": flags})
    logger = pl.loggers.CSVLogger(tmp_path)
    monitor = ScalingLawMonitor(run="mine")
    _, said = fit(pl, tmp_path, monitor, logger=logger, max_epochs=3)
    assert said == [
        "ScalingLawMonitor flags val_loss of mine: above_family (warning). It is 12 % above.",
        "ScalingLawMonitor flags val_loss of mine: unexpectedly_good (notice). It is 9 % below.",
    ]
    assert monitor.flags == flags
    for severity, count in (("notice", 1), ("warning", 1), ("critical", 0)):
        assert [float(row[f"scaling/flags/{severity}"]) for row in read_csv(logger)] == [count] * 3


def test_larger_models_are_logged(pl, tmp_path, monkeypatch):
    joint = JointReport(
        "ok", projections=(NamedProjection("7e9", 7e9, 1e4, 0.2, {"0.9": 0.1}, {"0.9": 0.3}),)
    )
    use_fake_fitter(monkeypatch, changes={"joint": joint})
    logger = pl.loggers.CSVLogger(tmp_path)
    fit(pl, tmp_path, ScalingLawMonitor(target_params=[7e9]), logger=logger)
    assert float(read_csv(logger)[0]["scaling/projected_7e9_params"]) == 0.2


def test_the_question(pl, tmp_path, fitter):
    monitor = ScalingLawMonitor(axis="unique_samples", targets=[10, 1e4], target_params=[50])
    fit(pl, tmp_path, monitor, logger=pl.loggers.CSVLogger(tmp_path), max_epochs=2)
    first, last = fitter.made[0].requests
    assert first == last
    assert "unsaved" not in last
    assert last["run"] == "lightning_logs/version_0"
    assert last["question"] == {
        "run": "lightning_logs/version_0", "metric": "val_loss", "axis": "unique_samples",
        "targets": [10.0, 1e4], "target_params": [50.0], "levels": [0.5, 0.8, 0.9],
    }  # fmt: skip
    assert fitter.made[0].closed == 1


def test_the_end_waits_for_the_last_projection_and_says_it(pl, tmp_path, monkeypatch, caplog):
    use_fake_fitter(monkeypatch, delay=10**9)
    caplog.set_level("INFO")
    logger = pl.loggers.CSVLogger(tmp_path)
    monitor = ScalingLawMonitor(final_wait=0.1)
    fit(pl, tmp_path, monitor, logger=logger, max_epochs=2)
    assert monitor.report is not None
    assert len(read_csv(logger)) == 1
    assert "projected 0.5 (90 %: 0.4 to 0.6) at 2x" in caplog.text
    unwaited = ScalingLawMonitor(final_wait=0)
    fit(pl, tmp_path, unwaited, max_epochs=2)
    assert unwaited.report is None


def test_several_loggers_none_and_barebones(pl, tmp_path, fitter):
    monitor = ScalingLawMonitor()
    fit(pl, tmp_path, monitor)
    assert monitor.report == a_report(fitter.made[0].requests[-1])
    trainer = pl.Trainer(
        barebones=True, max_epochs=1, default_root_dir=str(tmp_path), callbacks=ScalingLawMonitor()
    )
    trainer.fit(make_module(pl), loader(), loader())


# Resume, reuse, copies.


def checkpointed(pl, root, monitor, **options):
    """A Trainer that keeps a checkpoint in `root`/last.ckpt after every batch."""
    return [monitor, pl.callbacks.ModelCheckpoint(root, save_last=True, every_n_train_steps=1, save_top_k=0)]


@pytest.mark.parametrize("same_instance", [True, False])
def test_resume_in_the_middle_of_an_epoch(pl, tmp_path, same_instance):
    save = {"enable_checkpointing": True, "val_check_interval": 1}
    logger = pl.loggers.CSVLogger(tmp_path)
    monitor = ScalingLawMonitor(fit=False)
    fit(pl, tmp_path, checkpointed(pl, tmp_path, monitor), max_steps=8, max_epochs=9, logger=logger, **save)
    path = tmp_path / "last.ckpt"
    state = torch.load(path, weights_only=True)["callbacks"][monitor.state_key]
    assert state.pop("schedule")["knots"] == [[1, 0.01], [8, 0.01]]
    assert state == {
        "version": 1,
        "run": "lightning_logs/version_0",
        "samples": 32,
        "tokens": None,
        "tokens_rule": None,
        "distinct": 20,
    }
    again = monitor if same_instance else ScalingLawMonitor(fit=False)
    logger = pl.loggers.CSVLogger(tmp_path)
    fit(
        pl,
        tmp_path,
        checkpointed(pl, tmp_path, again),
        max_steps=12,
        max_epochs=9,
        logger=logger,
        ckpt_path=path,
        **save,
    )
    runs = read_study(tmp_path / "foretrain").runs
    assert set(runs) == {"lightning_logs/version_0", "lightning_logs/version_1"}
    second = runs["lightning_logs/version_1"]
    assert second.info.continues == {"run": "lightning_logs/version_0", "step": 8}
    assert column(second, "samples") == [4 * step for step in column(second, "steps")]
    assert column(second, "steps")[-1] == 12
    assert second.info.planned.samples == 48


def test_resume_without_a_logger_keeps_the_name(pl, tmp_path):
    save = {"enable_checkpointing": True}
    fit(pl, tmp_path, checkpointed(pl, tmp_path, ScalingLawMonitor(fit=False)), max_epochs=2, **save)
    path = tmp_path / "last.ckpt"
    witness = make_witness(pl)
    again = checkpointed(pl, tmp_path, ScalingLawMonitor(fit=False))
    fit(pl, tmp_path, [*again, witness], max_epochs=4, ckpt_path=path, **save)
    # Older versions of Lightning train on one batch more after a checkpoint of an epoch's last batch.
    assert witness.validated[-1] in ((40, 20), (44, 21))
    run = only_run(tmp_path)
    assert run.info.attempt == 2
    assert column(run, "samples") == [20, 40, *(40 + samples for samples, _ in witness.validated)]
    assert column(run, "steps") == [5, 10, *(step for _, step in witness.validated)]


def test_resume_from_a_checkpoint_that_knows_nothing(pl, tmp_path):
    save = {"enable_checkpointing": True}
    fit(pl, tmp_path, checkpointed(pl, tmp_path, pl.callbacks.LearningRateFinder)[1:], max_epochs=2, **save)
    path = tmp_path / "last.ckpt"
    witness = make_witness(pl)
    _, said = fit(pl, tmp_path, [ScalingLawMonitor(fit=False), witness], max_epochs=4, ckpt_path=path)
    assert any("the 10 batches before it are taken to be like this one (4 samples)" in s for s in said)
    run = only_run(tmp_path)
    assert column(run, "samples") == [40 + samples for samples, _ in witness.validated]
    assert len(witness.validated) >= 2
    assert run.info.continues["step"] == 10


@pytest.mark.parametrize(
    "state", [{}, {"version": 2}, {"version": 1}, {"version": 1, "run": "r", "samples": "x"}]
)
def test_foreign_state_does_not_stop_a_resume(state):
    monitor = ScalingLawMonitor()
    with pytest.warns(UserWarning, match="failed in `load_state_dict`"):
        monitor.load_state_dict(state)
    assert monitor.state_dict() == {}


def test_an_instance_in_a_second_trainer_begins_anew(pl, tmp_path):
    monitor = ScalingLawMonitor(fit=False)
    for version in range(2):
        logger = pl.loggers.CSVLogger(tmp_path)
        fit(pl, tmp_path, monitor, max_epochs=2, logger=logger)
        run = read_study(tmp_path / "foretrain").runs[f"lightning_logs/version_{version}"]
        assert column(run, "samples") == [20, 40]
        assert run.info.continues["step"] == 0


def test_a_trainer_that_fits_twice_goes_on(pl, tmp_path):
    monitor = ScalingLawMonitor(fit=False)
    trainer, _ = fit(pl, tmp_path, monitor, max_epochs=2)
    trainer.fit_loop.max_epochs = 4
    trainer.fit(trainer.lightning_module, loader(), loader())
    run = only_run(tmp_path)
    assert column(run, "samples") == [20, 40, 60, 80]
    assert run.info.attempt == 2


def test_a_checkpoint_loaded_to_validate_is_not_resumed_from(pl, tmp_path):
    monitor = ScalingLawMonitor(fit=False)
    trainer, _ = fit(pl, tmp_path, monitor, max_epochs=1)
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    assert (
        torch.load(tmp_path / "one.ckpt", weights_only=True)["callbacks"][monitor.state_key]["samples"] == 20
    )
    trainer.fit_loop.max_epochs = 2
    trainer.fit(trainer.lightning_module, loader(), loader())
    trainer.validate(trainer.lightning_module, loader(), ckpt_path=tmp_path / "one.ckpt", verbose=False)
    trainer.fit_loop.max_epochs = 3
    trainer.fit(trainer.lightning_module, loader(), loader())
    assert column(only_run(tmp_path), "samples") == [20, 40, 60]


def test_two_monitors_in_one_run(pl, tmp_path):
    monitors = [ScalingLawMonitor(fit=False, study=name) for name in "ab"]
    monitors[1] = ScalingLawMonitor(fit=False, axis="steps", study="b")
    fit(pl, tmp_path, monitors, max_epochs=2)
    for name in "ab":
        (run,) = read_study(tmp_path / "foretrain", name).runs.values()
        assert column(run, "samples") == [20, 40]


def test_the_learning_rate_finder_does_not_count(pl, tmp_path):
    # Older versions of Lightning begin where their finder stopped in the epoch, and train on fewer batches.
    finder = pl.callbacks.LearningRateFinder(num_training_steps=3)
    module = make_module(pl)
    module.lr = 0.01
    witness = make_witness(pl)
    fit(pl, tmp_path, [ScalingLawMonitor(fit=False), finder, witness], module=module, max_epochs=3)
    assert witness.validated[-1] in ((60, 15), (48, 12))
    run = only_run(tmp_path)
    assert list(zip(column(run, "samples"), column(run, "steps"), strict=True)) == witness.validated


def length_of(batch):
    return batch[0].numel()


def test_copies_at_any_time(pl, tmp_path, fitter):
    copies = []

    class Copier(pl.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            copies.extend([copy.deepcopy(monitor), pickle.loads(pickle.dumps(monitor))])

        def on_validation_end(self, trainer, module):
            copies.extend([copy.deepcopy(monitor), pickle.loads(pickle.dumps(monitor))])

    monitor = ScalingLawMonitor(length_fn=length_of)
    fit(pl, tmp_path, [monitor, Copier()], max_epochs=2)
    assert len(copies) == 2 * 12
    assert column(only_run(tmp_path), "samples") == [20, 40]
    assert copies[-1].state_dict() == monitor.state_dict() != {}
    assert copies[0].settings == monitor.settings
    assert len(fitter.made) == 1


def test_it_imports_without_tensorboard():
    code = (
        "import sys; sys.modules['tensorboard'] = None; sys.modules['tensorboardX'] = None\n"
        "import foretrain.lightning; foretrain.lightning.ScalingLawMonitor()\n"
        "assert not [n for n in sys.modules if n.startswith(('foretrain.laws', 'foretrain.analysis'))]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
