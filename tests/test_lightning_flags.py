"""What a monitor does with flags: tells each once, calls the user's function, and stops where asked to."""

import contextlib
import importlib
import json
import math
import sys
import types
import warnings
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
import stop_run
from foretrain import child
from foretrain.cli import main
from foretrain.flags import Flag, FlagKind, Severity
from foretrain.lightning import ScalingLawMonitor, session
from foretrain.run_flags import FlagBook
from lightning_models import (
    FLAVOURS,
    FakeFitter,
    loader,
    make_module,
    make_trainer,
    read_study,
    use_fake_fitter,
)
from test_lightning_distributed import run_command

SPIKE = Flag(FlagKind.SPIKE, 5, "It is a spike.", {"score": 9.0}, Severity.WARNING)
GRAVE = Flag(FlagKind.DIVERGENCE, 10, "It diverges.", {"score": 9.0}, Severity.CRITICAL)


@pytest.fixture(params=FLAVOURS)
def pl(request):
    return importlib.import_module(request.param)


def fit(pl, root, monitor, *, values=None, ckpt=None, module=None, **options):
    """Trains, and gives the Trainer with what our warnings said."""
    trainer = make_trainer(pl, root, monitor, **{"max_epochs": 4, **options})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        module = module or make_module(pl, values=values)
        trainer.fit(module, loader(), loader(), **({} if ckpt is None else {"ckpt_path": ckpt}))
    return trainer, [str(w.message) for w in caught if "ScalingLawMonitor" in str(w.message)]


def test_each_new_flag_is_given_to_the_users_function_once(pl, tmp_path, monkeypatch):
    use_fake_fitter(monkeypatch, changes={"flags": (SPIKE, GRAVE)})
    called = []
    trainer, said = fit(pl, tmp_path, ScalingLawMonitor(run="mine", on_flag=called.append))
    assert called == [SPIKE, GRAVE] and trainer.current_epoch == 4
    assert said == [
        "ScalingLawMonitor flags val_loss of mine: spike (warning). It is a spike.",
        "ScalingLawMonitor flags val_loss of mine: divergence (critical). It diverges.",
    ]


def test_a_function_that_fails_is_one_warning_and_is_called_again(pl, tmp_path, monkeypatch):
    use_fake_fitter(monkeypatch, changes={"flags": (SPIKE, GRAVE)})
    called = []

    def broken(flag):
        called.append(flag)
        raise RuntimeError("no network")

    trainer, said = fit(pl, tmp_path, ScalingLawMonitor(on_flag=broken))
    assert trainer.current_epoch == 4 and called == [SPIKE, GRAVE]
    assert [s for s in said if "on_flag" in s] == [
        "`on_flag` of ScalingLawMonitor failed (RuntimeError: no network). Training is not affected, and "
        "later flags are given to it as well."
    ]


@pytest.mark.parametrize(
    ("flags", "stop_at", "stops"),
    [((SPIKE,), "critical", False), ((SPIKE,), "warning", True), ((SPIKE, GRAVE), "critical", True)],
)
def test_the_run_is_stopped_for_a_grave_flag_after_a_checkpoint(tmp_path, monkeypatch, flags, stop_at, stops):
    pl = importlib.import_module(FLAVOURS[0])
    use_fake_fitter(monkeypatch, changes={"flags": flags})
    trainer, said = fit(pl, tmp_path, ScalingLawMonitor(action="stop", stop_at=stop_at))
    assert trainer.current_epoch == (1 if stops else 4)
    kept = list((tmp_path / "checkpoints").glob("*.ckpt"))
    reason = flags[-1] if stop_at == "critical" else flags[0]
    path = tmp_path / "checkpoints" / f"flagged-{reason.kind.value}-step={reason.step}.ckpt"
    assert kept == ([path] if stops else [])
    stopped = f"ScalingLawMonitor stops the run for its flag. The checkpoint is {path}."
    assert (stopped in said) == stops
    if stops:
        saved = torch.load(path, weights_only=True)
        assert saved["global_step"] == 5 and any("ScalingLawMonitor" in key for key in saved["callbacks"])


def test_by_default_nothing_is_stopped(pl, tmp_path, monkeypatch):
    use_fake_fitter(monkeypatch, changes={"flags": (GRAVE,)})
    trainer, _ = fit(pl, tmp_path, ScalingLawMonitor())
    assert trainer.current_epoch == 4 and not (tmp_path / "checkpoints").exists()


def test_the_checkpoint_lies_beside_the_others(pl, tmp_path, monkeypatch):
    use_fake_fitter(monkeypatch, changes={"flags": (GRAVE,)})
    own = pl.callbacks.ModelCheckpoint(tmp_path / "mine")
    fit(pl, tmp_path, [ScalingLawMonitor(action="stop"), own], enable_checkpointing=True)
    assert (tmp_path / "mine" / "flagged-divergence-step=10.ckpt").exists()


def test_flags_from_before_a_resume_are_old(pl, tmp_path, monkeypatch):
    use_fake_fitter(monkeypatch, changes={"flags": (SPIKE, GRAVE)})  # at steps 5 and 10, known at step 5
    first = []
    fit(pl, tmp_path, ScalingLawMonitor(action="stop", on_flag=first.append), max_epochs=8)
    (saved,) = (tmp_path / "checkpoints").glob("*.ckpt")
    again = []
    monitor = ScalingLawMonitor(action="stop", on_flag=again.append)
    trainer, _ = fit(pl, tmp_path, monitor, ckpt=str(saved), max_epochs=3)
    assert first == [SPIKE, GRAVE]
    assert again == [GRAVE] and trainer.current_epoch < 3, "of after the checkpoint: new evidence"
    use_fake_fitter(monkeypatch, changes={"flags": (SPIKE,)})
    again.clear()
    trainer, said = fit(pl, tmp_path, monitor, ckpt=str(saved), max_epochs=3)
    assert (
        again == [] and not any("ScalingLawMonitor flags" in s for s in said) and trainer.current_epoch == 3
    )
    assert monitor.flags == (SPIKE,), "it is still known"


def test_tensorboard_gets_the_flag_as_text(pl, tmp_path, monkeypatch):
    use_fake_fitter(monkeypatch, changes={"flags": (GRAVE,)})
    logger = pl.loggers.TensorBoardLogger(tmp_path)
    fit(pl, tmp_path, ScalingLawMonitor(), logger=logger)
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(logger.log_dir)
    events.Reload()
    (told,) = events.Tensors("scaling/flags/text_summary")
    assert told.tensor_proto.string_val == [b"**divergence** (critical): It diverges."]


def test_a_logger_of_texts_gets_a_row(pl, tmp_path, monkeypatch):
    use_fake_fitter(monkeypatch, changes={"flags": (GRAVE,)})
    rows = []

    class Texts(pl.loggers.CSVLogger):
        log_dir = None
        experiment = None

        def log_metrics(self, metrics, step=None):
            pass

        def log_text(self, key, columns, data):
            rows.append((key, dict(zip(columns, data[0], strict=True))))

        def save(self):
            pass

        def finalize(self, status):
            pass

    _, said = fit(pl, tmp_path, ScalingLawMonitor(), logger=Texts(tmp_path))
    row = {"step": 10, "kind": "divergence", "severity": "critical", "message": "It diverges."}
    assert rows == [("scaling/flags", row)] and len(said) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"on_flag": "print"}, "Expected `on_flag` to be a function of a flag, got 'print'"),
        ({"action": "halt"}, "Expected `action` to be one of warn, stop, got 'halt'"),
        ({"stop_at": "grave"}, "Expected `stop_at` to be one of notice, warning, critical, got 'grave'"),
        ({"action": "stop", "fit": False}, "Expected `fit=True` with `on_flag`"),
        ({"on_flag": print, "fit": False}, "Expected `fit=True` with `on_flag`"),
    ],
)
def test_what_cannot_be_meant_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ScalingLawMonitor(**arguments)


class InProcess(FakeFitter):
    """Answers a request with the child's own program, in this process and at once, by flags alone."""

    def __init__(self):
        super().__init__()
        self._answerer = child._Answerer(lambda: None)

    def submit(self, request, *, glance=False):
        watch = types.SimpleNamespace(allow=lambda seconds: None)
        answer = self._answerer.answer(json.dumps({**request, "id": 7, "glance": glance}).encode(), watch)
        assert answer["id"] == 7 and answer["seconds"] >= 0
        self.flags = tuple(Flag.from_json(json.loads(json.dumps(flag))) for flag in answer["flags"])


def test_flags_told_live_are_those_that_are_replayed_later_also_after_a_resume(tmp_path, capsys, monkeypatch):
    """Two attempts of one run, the first killed after its checkpoint; then the records are replayed."""
    pl = importlib.import_module(FLAVOURS[0])
    monkeypatch.setattr(session, "BackgroundFitter", InProcess)
    values = [2.0 + 3.0 / (k + 1) + 1e-3 * math.sin(17 * k * k) for k in range(60)]
    values[10] = math.nan
    values[40:] = [1.3 * value for value in values[40:]]
    module, live = make_module(pl, values=values), []

    class Ends(pl.Callback):
        def on_validation_start(self, trainer, module):
            module.validations = trainer.global_step // 5 - 1  # which value: versions resume differently

        def on_validation_end(self, trainer, module):
            if trainer.current_epoch == 30:
                trainer.save_checkpoint(tmp_path / "at30.ckpt")
            if trainer.current_epoch == 45 and not resumed:
                raise KeyboardInterrupt

    def monitor():
        return ScalingLawMonitor(run="mine", on_flag=live.append)

    resumed = False
    with contextlib.suppress(KeyboardInterrupt, SystemExit):  # some versions of Lightning end without
        fit(pl, tmp_path, [monitor(), Ends()], module=module, max_epochs=60)
    assert module.validations == 46
    before = [(flag.kind, flag.step) for flag in live]
    assert FlagKind.NOT_FINITE in dict(before) and FlagKind.DIVERGENCE in dict(before)
    resumed = True
    live.clear()
    last = monitor()
    fit(pl, tmp_path, [last, Ends()], module=module, ckpt=tmp_path / "at30.ckpt", max_epochs=60)
    runs = read_study(tmp_path / "foretrain").runs
    replayed = FlagBook().flags(runs, "mine", "val_loss")
    told = [(flag.kind, flag.step) for flag in replayed]
    assert told[0] == (FlagKind.NOT_FINITE, 55) and FlagKind.DIVERGENCE in dict(told)
    assert last.flags == replayed
    assert [(flag.kind, flag.step) for flag in live] == [pair for pair in told if pair[1] > 31 * 5]
    assert before == told[: len(before)], "it was resumed from before it diverged, and did so again"
    assert main(["flags", str(tmp_path), "--json"]) == 0
    printed = [Flag.from_json(json.loads(line)) for line in capsys.readouterr().out.splitlines()]
    assert [(flag.kind, flag.step) for flag in printed] == told


def test_two_processes_stop_together_and_go_on_together_where_no_checkpoint_can_be_saved(tmp_path):
    status, said = run_command([stop_run.__file__, FLAVOURS[0], str(tmp_path), "saved", "unsaved", "broken"])
    assert status == 0, said[-3000:]

    def told(fault):
        return [json.loads((tmp_path / f"{fault}_rank{rank}.json").read_text()) for rank in (0, 1)]

    first, second = told("saved")
    assert first["epochs"] == second["epochs"] == 3 and first["steps"] == second["steps"]
    assert (first["called"], second["called"]) == (["spike", "divergence"], [])
    path = tmp_path / "saved" / "checkpoints" / "flagged-divergence-step=3.ckpt"
    assert torch.load(path, weights_only=True)["global_step"] == first["steps"]
    first, second = told("unsaved")
    assert first["epochs"] == second["epochs"] == stop_run.EPOCHS
    (sentence,) = [s for s in first["said"] if "does not stop" in s]
    assert "could not be saved (OSError: no space left)" in sentence
    first, second = told("broken")  # the hook fails on one process: the other one still waits for nothing
    assert first["epochs"] == second["epochs"] == stop_run.EPOCHS
