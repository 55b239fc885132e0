"""The first promise: nothing of ours ends, slows or changes a training run, and no observation is lost."""

import importlib
import importlib.metadata
import importlib.util
import json
import logging
import math
import os
import random
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
import foretrain
from foretrain.lightning import ScalingLawMonitor, session
from foretrain.lightning.host import guarded
from foretrain.lightning.training_path import TrainingPath
from lightning_models import (
    FLAVOURS,
    loader,
    make_module,
    make_trainer,
    only_run,
    points,
    read_study,
    use_fake_fitter,
)
from processes import alone, children

OURS = str(Path(foretrain.__file__).parent)


@pytest.fixture(params=FLAVOURS)
def pl(request):
    return importlib.import_module(request.param)


def weights(pl, root, monitors, **options):
    """The weights after a run with dropout and shuffling, and what random numbers would come next."""
    pl.seed_everything(7)
    module = make_module(pl)
    trainer = make_trainer(pl, root, monitors, max_epochs=2, val_check_interval=2, **options)
    trainer.fit(module, loader(shuffle=True), loader())
    following = [random.random(), float(np.random.rand()), float(torch.rand(()))]  # noqa: NPY002
    return [parameter.tolist() for parameter in module.parameters()], following


def weights_each_way(flavour, root):
    """The same without us, and with us without and with a fitter."""
    pl = importlib.import_module(flavour)
    monitors = {fit: ScalingLawMonitor(fit=fit, final_wait=0) for fit in (False, True)}
    with_us = [weights(pl, root / str(fit), [monitor]) for fit, monitor in monitors.items()]
    return weights(pl, root / "without", []), with_us


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_weights_are_the_same_to_the_last_bit(flavour, tmp_path):
    without, with_us = alone(weights_each_way, flavour, tmp_path)
    assert with_us == [without, without]
    assert all(only_run(tmp_path / str(fit)).observations for fit in (False, True))


class Injected(Exception):
    pass


def run_with_fault(root, number):
    """A run in which the given call of a function of ours raises; tells how many calls there were."""
    pl = importlib.import_module("pytorch_lightning")
    calls = 0

    def profile(frame, event, argument):
        nonlocal calls
        code, caller = frame.f_code, frame.f_back
        if event != "call" or not code.co_filename.startswith(OURS) or code.co_filename.endswith("host.py"):
            return
        if caller is None or not caller.f_code.co_filename.startswith(OURS):
            return  # Python's own calls, and those to `state_dict` and the like, which only pass on
        calls += 1
        if calls == number:
            raise Injected(code.co_name)  # this also ends the profiling: one fault in a run

    monitor = ScalingLawMonitor(final_wait=0.1)
    checkpoint = pl.callbacks.ModelCheckpoint(root, every_n_train_steps=1)
    logger = pl.loggers.CSVLogger(root)
    options = {"limit_train_batches": 2, "max_epochs": 2, "enable_checkpointing": True, "logger": logger}
    trainer = make_trainer(pl, root, [monitor, checkpoint], **options)
    module = make_module(pl)
    sys.setprofile(profile)
    try:
        trainer.fit(module, loader(), loader())
    finally:
        sys.setprofile(None)
    assert trainer.global_step == 4
    assert trainer.state.finished
    return calls


def test_a_fault_in_any_call_of_ours_ends_no_run(tmp_path, monkeypatch):
    use_fake_fitter(monkeypatch, delay=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        calls = run_with_fault(tmp_path / "none", 0)
        assert len(only_run(tmp_path / "none" / "").observations) == 2
        assert calls > 100
        # The first ones each, then a sample: later validations repeat what the first one called.
        for number in [*range(1, 60, 3), *range(60, calls, 23)]:
            run_with_fault(tmp_path / str(number), number)


HOOKS = [
    "setup", "on_train_start", "on_before_optimizer_step", "on_train_batch_end", "on_validation_end",
    "on_save_checkpoint", "on_train_end", "teardown", "load_state_dict", "_state",
]  # fmt: skip


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_guarded(pl, tmp_path, monkeypatch, hook):
    def broken(self, *args, **kwargs):
        raise MemoryError("injected")

    assert getattr(ScalingLawMonitor, hook).__guarded__
    broken.__name__ = hook
    monkeypatch.setattr(ScalingLawMonitor, hook, guarded(broken))
    options = {"max_epochs": 2, "enable_checkpointing": True}
    monitor = ScalingLawMonitor(fit=False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer = make_trainer(pl, tmp_path, monitor, **options)
        trainer.fit(make_module(pl), loader(), loader())
        if hook == "load_state_dict":
            monitor.load_state_dict({})
    said = [str(w.message) for w in caught if "ScalingLawMonitor" in str(w.message)]
    assert [sentence.partition(". ")[0] for sentence in said] == [
        f"ScalingLawMonitor failed in `{hook}` (MemoryError: injected)"
    ]
    assert trainer.state.finished
    assert trainer.global_step == 10


def test_no_hook_is_unguarded():
    told = {"state_dict", "state_key", "warn_once"}  # these only pass on, or are ours
    for name, method in {**vars(TrainingPath), **vars(ScalingLawMonitor)}.items():
        if not name.startswith("_") and name not in told:
            assert method.__guarded__, name


@pytest.mark.parametrize(
    ("hook", "work"), [("on_train_batch_end", "_counter"), ("on_before_optimizer_step", "_rates")]
)
def test_the_hooks_of_every_batch_guard_themselves(pl, tmp_path, hook, work):
    class Broken:
        def __getattr__(self, name):
            raise MemoryError("injected")

    class Breaks(pl.Callback):
        def on_train_epoch_start(self, trainer, module):
            whole.setdefault(work, getattr(monitor, work))
            setattr(monitor, work, Broken())

        def on_train_epoch_end(self, trainer, module):
            setattr(monitor, work, whole[work])

    whole = {}
    monitor = ScalingLawMonitor(fit=False)
    with pytest.warns(match=rf"ScalingLawMonitor failed in `{hook}` \(MemoryError: injected\)") as caught:
        trainer = make_trainer(pl, tmp_path, [monitor, Breaks()], max_epochs=2)
        trainer.fit(make_module(pl), loader(), loader())
    assert len([w for w in caught if "ScalingLawMonitor failed" in str(w.message)]) == 1
    assert trainer.state.finished
    assert trainer.global_step == 10


def test_warnings_as_errors_end_no_run(pl, tmp_path, monkeypatch, caplog):
    use_fake_fitter(monkeypatch)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*ScalingLawMonitor.*")
        trainer = make_trainer(pl, tmp_path, ScalingLawMonitor("no_such_metric"), max_epochs=2)
        trainer.fit(make_module(pl), loader(), loader())
    assert trainer.state.finished
    assert caplog.text.count("expects the metric `no_such_metric`") == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_the_will_of_the_user_passes(pl, tmp_path, error):
    def count(batch):
        nonlocal batches
        batches += 1
        if batches == 8:
            raise error
        return 4

    batches = 0
    trainer = make_trainer(pl, tmp_path, ScalingLawMonitor(fit=False, batch_size_fn=count), max_epochs=9)
    try:
        trainer.fit(make_module(pl), loader(), loader())
    except (KeyboardInterrupt, SystemExit):
        pass
    else:  # Lightning 2.2 ends the fit at an interrupt, and returns
        assert error is KeyboardInterrupt and trainer.interrupted
    assert batches == 8
    run = only_run(tmp_path)
    assert run.state == "failed"
    assert [o.counts.samples for o in run.observations] == [20]


def test_an_exception_in_training_is_the_same_with_us(pl, tmp_path, monkeypatch):
    fake = use_fake_fitter(monkeypatch)
    module = make_module(pl)

    def training_step(batch, batch_idx):
        if module.global_step == 7:
            raise ZeroDivisionError("the user's")
        return module.loss(batch)

    module.training_step = training_step
    trainer = make_trainer(pl, tmp_path, ScalingLawMonitor(), max_epochs=9)
    with pytest.raises(ZeroDivisionError, match="the user's"):
        trainer.fit(module, loader(), loader())
    assert only_run(tmp_path).state == "failed"
    assert fake.made[0].closed == 1


def test_an_exception_before_the_first_batch(pl, tmp_path):
    trainer = make_trainer(pl, tmp_path, ScalingLawMonitor(fit=False))
    module = make_module(pl)
    module.configure_optimizers = lambda: 1 // 0
    with pytest.raises(ZeroDivisionError):
        trainer.fit(module, loader(), loader())
    assert not (tmp_path / "foretrain").exists()


@pytest.mark.parametrize("root", ["a file", "/proc/foretrain", "\0"])
def test_where_nothing_can_be_written_the_run_goes_on(pl, tmp_path, monkeypatch, root):
    fake = use_fake_fitter(monkeypatch)
    if root == "a file":
        root = tmp_path / "a file"
        root.write_text("in the way")
    trainer = make_trainer(pl, tmp_path, ScalingLawMonitor(root=root), max_epochs=3)
    with pytest.warns(UserWarning, match="cannot be written"):
        trainer.fit(make_module(pl), loader(), loader())
    assert len(fake.made[0].requests[-1]["unsaved"]["observations"]) == 3


def test_a_fitter_that_cannot_be_made_loses_no_observation(pl, tmp_path, monkeypatch):
    def broken():
        raise OSError("no more processes")

    monkeypatch.setattr(session, "BackgroundFitter", broken)
    trainer = make_trainer(pl, tmp_path, ScalingLawMonitor(), max_epochs=3)
    with pytest.warns(UserWarning, match="no more processes"):
        trainer.fit(make_module(pl), loader(), loader())
    assert len(only_run(tmp_path).observations) == 3


def test_the_fitters_death_costs_nothing(pl, tmp_path):
    before = children()
    killed = []

    class Murderer(pl.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            for child in children() - before:
                os.kill(child, signal.SIGKILL)
                killed.append(child)

    monitor = ScalingLawMonitor(final_wait=0)
    trainer = make_trainer(pl, tmp_path, [monitor, Murderer()], max_epochs=10)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.fit(make_module(pl), loader(), loader())
    assert killed
    run = only_run(tmp_path)
    assert run.state == "finished"
    assert [o.counts.samples for o in run.observations] == [20 * (i + 1) for i in range(10)]
    assert sum("background fit failed" in str(w.message) for w in caught) <= 1
    assert children() == before


def test_no_child_is_left_behind(pl, tmp_path):
    before = children()
    trainer = make_trainer(pl, tmp_path, ScalingLawMonitor(final_wait=0), max_epochs=2)
    trainer.fit(make_module(pl), loader(), loader())
    module = make_module(pl)
    module.on_train_epoch_end = lambda: 1 // 0
    trainer = make_trainer(pl, tmp_path, ScalingLawMonitor(), max_epochs=2)
    with pytest.raises(ZeroDivisionError):
        trainer.fit(module, loader(), loader())
    assert children() == before


def test_killed_training_leaves_every_observation_that_was_kept(tmp_path):
    script = Path(__file__).with_name("lightning_models.py")
    command = [sys.executable, str(script), "lightning.pytorch", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    kept = []
    try:
        for line in process.stdout:
            if line.startswith("kept "):
                kept.append(int(line.split()[1]))
            if len(kept) == 15:
                break
    finally:
        process.kill()
    kept += [int(line.split()[1]) for line in process.stdout if line.startswith("kept ") and line[-1] == "\n"]
    process.wait(10)
    run = only_run(tmp_path)
    assert len(kept) >= 15
    assert set(kept) <= {o.counts.steps for o in run.observations}
    assert run.state == "running"


def test_resume_in_another_process(tmp_path):
    pl = importlib.import_module("pytorch_lightning")
    save = pl.callbacks.ModelCheckpoint(tmp_path, save_last=True, every_n_train_steps=1, save_top_k=0)
    callbacks = [ScalingLawMonitor(fit=False), save]
    trainer = make_trainer(pl, tmp_path, callbacks, max_epochs=2, enable_checkpointing=True)
    trainer.fit(make_module(pl), loader(), loader())
    code = """
import sys; sys.path.insert(0, {tests!r})
import pytorch_lightning as pl
from lightning_models import *
from foretrain.lightning import ScalingLawMonitor
witness = make_witness(pl)
trainer = make_trainer(pl, {root!r}, [ScalingLawMonitor(fit=False), witness], max_epochs=4)
trainer.fit(make_module(pl), loader(), loader(), ckpt_path={root!r} + "/last.ckpt")
print([40 + samples for samples, _ in witness.validated])
"""
    code = code.format(tests=str(Path(__file__).parent), root=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=120)
    validated = json.loads(done.stdout.splitlines()[-1])
    assert validated[-1] in (80, 84)  # older versions of Lightning train on one batch more
    run = only_run(tmp_path)
    assert run.info.attempt == 2
    assert run.info.continues == {"run": run.info.run, "step": 10}
    assert [o.counts.samples for o in run.observations] == [20, 40, *validated]


def test_a_real_projection_reaches_the_loggers(pl, tmp_path):
    pytest.importorskip("foretrain.analysis")
    values = [0.1 + 2.0 * (400 * (i + 1)) ** -0.5 for i in range(12)]
    logger = pl.loggers.CSVLogger(tmp_path)
    monitor = ScalingLawMonitor(final_wait=60)
    trainer = make_trainer(pl, tmp_path, monitor, max_epochs=12, logger=logger)
    trainer.fit(make_module(pl, values=values), loader(points(400), batch_size=100), loader())
    report = monitor.report
    assert report is not None
    assert report.run == "lightning_logs/version_0"
    assert report.step == 48
    assert report.planned == 4800
    assert {"2x", "10x", "100x"} <= {projection.name for projection in report.projections}
    assert "scaling/projected_10x" in Path(logger.log_dir, "metrics.csv").read_text()
    assert math.isfinite(report.projections[0].median)


def test_a_slow_fitter_does_not_hold_up_the_end(pl, tmp_path, monkeypatch):
    monkeypatch.setattr(
        session, "BackgroundFitter", lambda: importlib.import_module("foretrain.fitter").BackgroundFitter(
            command=[sys.executable, "-c", "import time; time.sleep(600)"]
        ),
    )  # fmt: skip
    trainer = make_trainer(pl, tmp_path, ScalingLawMonitor(final_wait=0.2), max_epochs=2)
    began = time.monotonic()
    trainer.fit(make_module(pl), loader(), loader())
    assert time.monotonic() - began < 30  # no timing: only that it does not wait for the child
    assert read_study(tmp_path / "foretrain").runs


@pytest.mark.skipif(
    importlib.metadata.version("pytorch-lightning") == "2.2.0",
    reason="the ThroughputMonitor of Lightning 2.2.0 refuses to log every 50 steps without accumulation",
)
def test_the_benchmark_runs(capsys, monkeypatch):
    path = Path(__file__).parents[1] / "benchmarks" / "overhead.py"
    spec = importlib.util.spec_from_file_location("overhead", path)
    overhead = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "overhead", overhead)
    spec.loader.exec_module(overhead)
    threads, levels = (
        torch.get_num_threads(),
        {name: logging.getLogger(name).level for name in overhead.LOGGERS},
    )
    try:
        with warnings.catch_warnings():
            overhead.main(["--quick"])
    finally:
        torch.set_num_threads(threads)
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
    said = capsys.readouterr().out
    assert said.count("identical") == 7 and "DIFFERENT" not in said
    assert "Inside the monitor's own hooks" in said
    assert "on_before_optimizer_step" in said
