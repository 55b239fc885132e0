"""The schedule of a real run: what is recorded of it and planned, in a Trainer of either Lightning."""

import copy
import importlib
import math
import pickle
import signal
import subprocess
import sys
import types
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.optim import lr_scheduler as S

sys.path.insert(0, str(Path(__file__).parent))
from foretrain.lightning import ScalingLawMonitor, planning
from foretrain.lightning.schedule import CHANGED, MOST_WAITING, RateRecorder
from foretrain.observation import NOT_RECORDED
from lightning_models import FLAVOURS, loader, make_trainer, only_run, points, read_study, use_fake_fitter


@pytest.fixture(params=FLAVOURS)
def pl(request):
    return importlib.import_module(request.param)


def make_module(pl, configure, **hooks):
    """A linear regression with dropout, whose optimizer and schedulers are those of `configure(module)`."""

    class Module(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = torch.nn.Sequential(torch.nn.Dropout(0.2), torch.nn.Linear(4, 1))

        def training_step(self, batch, batch_idx):
            return ((self.net(batch[0]) - batch[1]) ** 2).mean()

        def validation_step(self, batch, batch_idx):
            self.log("val_loss", ((self.net(batch[0]) - batch[1]) ** 2).mean())

        def configure_optimizers(self):
            return configure(self)

    for name, hook in hooks.items():
        setattr(Module, name, hook)
    return Module()


def sgd(module, rate=0.01):
    return torch.optim.SGD(module.parameters(), rate, momentum=0.9)


def scheduled(make, **config):
    """A `configure_optimizers` with one scheduler, for each optimizer step unless said otherwise."""

    def configure(module):
        optimizer = sgd(module)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": make(optimizer), "interval": "step", **config},
        }

    return configure


class Spy:
    """What the run itself used, update by update, and what the records said at each validation."""

    def __init__(self, pl, root):
        spy = self
        self.rates, self.records = {}, []

        class Callback(pl.Callback):
            def on_before_optimizer_step(self, trainer, module, optimizer):
                rates = [float(group["lr"]) for group in optimizer.param_groups]
                spy.rates.setdefault(trainer.global_step + 1, max(rates, default=0.0))

            def on_validation_end(self, trainer, module):
                if Path(root, "foretrain").exists():
                    spy.records.append(only_run(root))

        self.callback = Callback()

    @property
    def used(self):
        return [self.rates[step] for step in sorted(self.rates)]


def fit(pl, root, configure, *, hooks=None, callbacks=(), monitor=None, ckpt_path=None, **options):
    spy = Spy(pl, root)
    monitor = ScalingLawMonitor(fit=False) if monitor is None else monitor
    options = {"max_epochs": 4, "val_check_interval": 5, **options}
    trainer = make_trainer(pl, root, [*callbacks, monitor, spy.callback], **options)
    module = make_module(pl, configure, **(hooks or {}))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.fit(module, loader(points(40)), loader(), ckpt_path=ckpt_path)  # 10 batches in an epoch
    spy.said = [str(w.message) for w in caught if "ScalingLawMonitor" in str(w.message)]
    spy.trainer = trainer
    return spy


def check(record, used, until=None):
    """The schedule of a record is what was used, all of it or up to a step."""
    used = used[:until]
    assert record.schedule.end == len(used)
    assert record.schedule.rates() == pytest.approx(used, abs=1e-3 * max(used))


MAKERS = {
    "LambdaLR": lambda o: S.LambdaLR(o, lambda step: min(1.0, (step + 1) / 7) * 0.95**step),
    "MultiplicativeLR": lambda o: S.MultiplicativeLR(o, lambda step: 0.9),
    "StepLR": lambda o: S.StepLR(o, 9, 0.5),
    "MultiStepLR": lambda o: S.MultiStepLR(o, [3, 17]),
    "ConstantLR": lambda o: S.ConstantLR(o, 0.3, 11),
    "LinearLR": lambda o: S.LinearLR(o, 0.1, 1.0, 12),
    "ExponentialLR": lambda o: S.ExponentialLR(o, 0.9),
    "PolynomialLR": lambda o: S.PolynomialLR(o, 30, 1.5),
    "CosineAnnealingLR": lambda o: S.CosineAnnealingLR(o, 40),
    "CosineAnnealingWarmRestarts": lambda o: S.CosineAnnealingWarmRestarts(o, 6, 2),
    "OneCycleLR": lambda o: S.OneCycleLR(o, 0.05, total_steps=41),
    "CyclicLR": lambda o: S.CyclicLR(o, 0.001, 0.02, 5),
    "SequentialLR": lambda o: S.SequentialLR(
        o, [S.LinearLR(o, 0.1, 1.0, 8), S.CosineAnnealingLR(o, 32)], [8]
    ),
    "ChainedScheduler": lambda o: S.ChainedScheduler([S.ConstantLR(o, 0.5, 5), S.ExponentialLR(o, 0.95)]),
}


@pytest.mark.parametrize("name", MAKERS)
def test_a_run_uses_what_was_planned_at_its_first_validation(pl, tmp_path, name):
    spy = fit(pl, tmp_path, scheduled(MAKERS[name]))
    first, last = spy.records[0], only_run(tmp_path)
    assert len(spy.used) == 40 and spy.said == []
    assert (first.schedule_used_until, first.schedule_unknown) == (5, None)
    check(first, spy.used)
    check(last, spy.used)
    assert (last.schedule_used_until, last.schedule_unknown) == (40, None)
    assert [record.schedule_used_until for record in spy.records] == list(range(5, 41, 5))
    assert [o.lr for o in last.observations] == pytest.approx(spy.used[4::5])
    assert last.info.conventions["schedule"] == name


def plain(module):
    optimizer = sgd(module)
    return [optimizer], [S.StepLR(optimizer, 2, 0.5)]


def in_a_dictionary(module):
    optimizer = sgd(module)
    return {"optimizer": optimizer, "lr_scheduler": S.ExponentialLR(optimizer, 0.5)}


def two_schedulers(module):
    optimizer = sgd(module)
    warmup = {"scheduler": S.LinearLR(optimizer, 0.1, 1.0, 12), "interval": "step"}
    return [optimizer], [warmup, {"scheduler": S.ExponentialLR(optimizer, 0.5), "interval": "epoch"}]


def two_groups(module):
    weight, bias = module.parameters()
    optimizer = torch.optim.SGD([{"params": [weight], "lr": 0.01}, {"params": [bias], "lr": 0.002}])
    functions = [lambda step: 0.8**step, lambda step: 0.99**step]
    return [optimizer], [{"scheduler": S.LambdaLR(optimizer, functions), "interval": "step"}]


def quasi_newton(module):
    optimizer = torch.optim.LBFGS(module.parameters(), lr=0.01, max_iter=4)
    return [optimizer], [{"scheduler": S.ExponentialLR(optimizer, 0.9), "interval": "step"}]


CONFIGURATIONS = {
    "no scheduler": (sgd, {}),
    "plain": (plain, {}),
    "dictionary": (in_a_dictionary, {}),
    "every second epoch": (scheduled(lambda o: S.ExponentialLR(o, 0.5), interval="epoch", frequency=2), {}),
    "every third batch": (scheduled(lambda o: S.ExponentialLR(o, 0.9), frequency=3), {}),
    "accumulation": (scheduled(lambda o: S.ExponentialLR(o, 0.9)), {"accumulate_grad_batches": 4}),
    "accumulation and frequency": (
        scheduled(lambda o: S.ExponentialLR(o, 0.9), frequency=2),
        {"accumulate_grad_batches": 3},
    ),
    "accumulation by epoch": (in_a_dictionary, {"accumulate_grad_batches": 3}),
    "end in the middle of an epoch": (in_a_dictionary, {"max_steps": 23, "max_epochs": -1}),
    "fewer batches": (in_a_dictionary, {"limit_train_batches": 7, "val_check_interval": 3}),
    "two schedulers": (two_schedulers, {}),
    "two groups": (two_groups, {}),
    "several evaluations in a step": (quasi_newton, {}),
    "mixed precision": (in_a_dictionary, {"precision": "bf16-mixed"}),
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_configurations(pl, tmp_path, name):
    configure, options = CONFIGURATIONS[name]
    spy = fit(pl, tmp_path, configure, **options)
    assert spy.said == []
    assert len(set(spy.used)) > 1 or name == "no scheduler"
    planned = next(record for record in spy.records if record.schedule is not None)
    assert planned.schedule_unknown is None
    check(planned, spy.used)
    check(only_run(tmp_path), spy.used)


def test_a_validation_before_the_first_update(pl, tmp_path):
    spy = fit(pl, tmp_path, in_a_dictionary, accumulate_grad_batches=3, val_check_interval=1)
    assert (spy.records[0].schedule, spy.records[0].schedule_used_until) == (None, 0)
    assert (spy.records[2].schedule_used_until, spy.records[2].schedule_unknown) == (1, None)
    check(only_run(tmp_path), spy.used)


# What cannot be known ahead


def plateau(module):
    optimizer = sgd(module)
    config = {"scheduler": S.ReduceLROnPlateau(optimizer, patience=0), "monitor": "val_loss"}
    return {"optimizer": optimizer, "lr_scheduler": config}


def step_by_hand(self, scheduler, metric):
    scheduler.step()


def train_by_hand(self, batch, batch_idx):
    self.automatic_optimization = False
    optimizer = self.optimizers()
    optimizer.zero_grad()
    self.manual_backward(((self.net(batch[0]) - batch[1]) ** 2).mean())
    optimizer.step()


def no_optimizer(module):
    return None


UNKNOWN = {
    "reactive": (plateau, {}, {}),
    "overridden": (scheduled(MAKERS["StepLR"]), {"lr_scheduler_step": step_by_hand}, {}),
    "no end": (scheduled(MAKERS["StepLR"]), {}, {"max_epochs": -1, "limit_train_batches": 10}),
    "side effects": (scheduled(lambda o: S.LambdaLR(o, lambda step: print("") or 1.0)), {}, {}),
}


class Stop:
    def __new__(cls, pl):
        class Callback(pl.Callback):
            def on_train_epoch_end(self, trainer, module):
                trainer.should_stop = trainer.current_epoch >= 2

        return Callback()


@pytest.mark.parametrize("reason", UNKNOWN)
def test_why_the_rest_is_unknown(pl, tmp_path, reason):
    configure, hooks, options = UNKNOWN[reason]
    spy = fit(pl, tmp_path, configure, hooks=hooks, callbacks=[Stop(pl)], **options)
    assert spy.said == []
    for record in spy.records:
        assert record.schedule_unknown == reason
        check(record, spy.used, record.schedule_used_until)
    check(only_run(tmp_path), spy.used)


def test_accumulation_that_changes(pl, tmp_path):
    changes = pl.callbacks.GradientAccumulationScheduler({0: 1, 2: 2})
    spy = fit(pl, tmp_path, scheduled(MAKERS["StepLR"]), callbacks=[changes])
    assert {record.schedule_unknown for record in spy.records} == {"accumulation changes"}
    check(only_run(tmp_path), spy.used)


def test_manual_optimization_of_several_optimizers(pl, tmp_path):
    def configure(module):
        module.automatic_optimization = False
        optimizers = [sgd(module, 0.01), sgd(module, 0.02)]
        return optimizers, [S.ExponentialLR(optimizers[1], 0.9)]

    def training_step(self, batch, batch_idx):
        for optimizer in self.optimizers():
            optimizer.zero_grad()
            self.manual_backward(((self.net(batch[0]) - batch[1]) ** 2).mean())
            optimizer.step()
        self.lr_schedulers().step()

    fit(pl, tmp_path, configure, hooks={"training_step": training_step})
    record = only_run(tmp_path)
    # Lightning counts the steps of both, ten in five batches.
    rates = [0.02 * 0.9 ** ((step - 1) // 2) for step in range(1, 81)]
    check(record, rates)
    assert [o.lr for o in record.observations] == pytest.approx(rates[9::10])
    assert record.info.conventions["schedule"] == "ExponentialLR (of optimizer 2 of 2)"


def test_manual_optimization(pl, tmp_path):
    def configure(module):
        module.automatic_optimization = False
        return sgd(module)

    spy = fit(pl, tmp_path, configure, hooks={"training_step": train_by_hand})
    assert {record.schedule_unknown for record in spy.records} == {"manual"}
    check(only_run(tmp_path), spy.used)


def test_a_module_without_an_optimizer(pl, tmp_path):
    spy = fit(pl, tmp_path, no_optimizer)
    assert spy.said == []
    assert len(only_run(tmp_path).observations) == 8
    assert spy.records[-1].schedule is None and spy.records[-1].schedule_unknown == "no optimizer"


# The plan is checked by what comes


def changing(pl, **changes):
    """A callback of the user's that sets the rate by hand at some steps."""

    class Changing(pl.Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            rate = changes.get(f"at_{trainer.global_step + 1}")
            if rate is not None:
                for group in trainer.optimizers[0].param_groups:
                    group["lr"] = rate

    return Changing()


def test_a_plan_that_fails_is_made_anew_once(pl, tmp_path):
    spy = fit(pl, tmp_path, sgd, callbacks=[changing(pl, at_13=0.005)])
    assert [record.schedule_unknown for record in spy.records] == [None, None, CHANGED, *[None] * 5]
    check(spy.records[1], [0.01] * 40)
    check(spy.records[2], [0.01] * 12 + [0.005] * 3)
    check(spy.records[3], [0.01] * 12 + [0.005] * 28)
    assert spy.used == [0.01] * 12 + [0.005] * 28


def test_a_plan_that_fails_again_is_given_up(pl, tmp_path):
    spy = fit(pl, tmp_path, sgd, callbacks=[changing(pl, at_13=0.005, at_23=0.002, at_33=0.01)])
    reasons = [record.schedule_unknown for record in spy.records]
    assert reasons == [None, None, CHANGED, None, *[CHANGED] * 4]
    check(only_run(tmp_path), spy.used)


def test_a_function_that_reads_what_changes_is_found_out(pl, tmp_path):
    state = {"scale": 1.0}

    class Changing(pl.Callback):
        def on_train_epoch_start(self, trainer, module):
            state["scale"] *= 0.5

    spy = fit(
        pl, tmp_path, scheduled(lambda o: S.LambdaLR(o, lambda step: state["scale"])), callbacks=[Changing()]
    )
    reasons = [record.schedule_unknown for record in spy.records]
    assert reasons[-1] == CHANGED
    check(only_run(tmp_path), spy.used)


def test_another_length_is_another_plan(pl, tmp_path):
    class Longer(pl.Callback):
        def on_train_epoch_end(self, trainer, module):
            trainer.fit_loop.max_epochs = 6

    spy = fit(pl, tmp_path, scheduled(lambda o: S.LambdaLR(o, lambda step: 0.9**step)), callbacks=[Longer()])
    assert len(spy.used) == 60
    assert spy.records[0].schedule.end == 40
    assert spy.records[2].schedule_unknown == CHANGED
    check(spy.records[3], spy.used)


def test_a_rate_that_is_none_stops_the_record(pl, tmp_path):
    spy = fit(pl, tmp_path, sgd, callbacks=[changing(pl, at_13=-0.005, at_14=0.01)])
    assert spy.said == []
    assert spy.records[1].schedule_unknown is None
    assert {record.schedule_unknown for record in spy.records[2:]} == {"no rate"}
    assert {record.schedule_used_until for record in spy.records[2:]} == {10}
    assert [o.lr for o in only_run(tmp_path).observations][2:] == [None] * 6


# Resume


def saving(pl, root, every=1):
    return pl.callbacks.ModelCheckpoint(root, save_last=True, every_n_train_steps=every, save_top_k=0)


@pytest.mark.parametrize("steps", [8, 10, 13])
@pytest.mark.parametrize("interval", ["step", "epoch"])
def test_resume_keeps_one_unbroken_schedule(pl, tmp_path, steps, interval):
    def configure(module):
        return scheduled(
            lambda o: S.CosineAnnealingLR(o, 40 if interval == "step" else 4), interval=interval
        )(module)

    save = {"enable_checkpointing": True}
    first = fit(pl, tmp_path, configure, callbacks=[saving(pl, tmp_path)], max_steps=steps, **save)
    again = fit(pl, tmp_path, configure, ckpt_path=tmp_path / "last.ckpt")
    assert min(again.rates) == steps + 1
    used = first.used + again.used
    if interval == "step":
        assert used == pytest.approx(
            [0.005 * (1 + math.cos(math.pi * step / 40)) for step in range(len(used))]
        )
    record = only_run(tmp_path)
    assert record.info.attempt == 2
    check(record, used)
    told = [r for r in again.records if r.info.attempt == 2 and r.schedule_used_until > steps]
    assert told[0].schedule_unknown is None
    if len(used) == 40:  # older versions of Lightning train on one batch more after such a resume
        check(told[0], used)


def test_resume_in_another_process_after_a_kill(tmp_path):
    """The first process is killed after a checkpoint, between two validations."""
    code = """
import os, signal, sys; sys.path.insert(0, {tests!r})
import pytorch_lightning as pl
import test_lightning_schedule as t
from pathlib import Path
root = Path({root!r})
class Kill(pl.Callback):
    def on_train_batch_end(self, trainer, module, *args):
        if {kill} and trainer.global_step == 23:
            os.kill(os.getpid(), signal.SIGKILL)
configure = t.scheduled(t.MAKERS["SequentialLR"])
save = t.saving(pl, root, every=7)
path = None if {kill} else root / "last.ckpt"
done = t.fit(pl, root, configure, callbacks=[save, Kill()], ckpt_path=path, enable_checkpointing=True)
print(len(done.used))
"""
    for kill in (True, False):
        text = code.format(tests=str(Path(__file__).parent), root=str(tmp_path), kill=kill)
        done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=120)
        assert done.returncode == (-signal.SIGKILL if kill else 0), done.stderr[-2000:]
        if kill:
            record = only_run(tmp_path)
            # Validated at 20, and told once more with the checkpoint at 21.
            assert (record.state, record.schedule_used_until, record.schedule_unknown) == (
                "running",
                21,
                None,
            )
            assert record.observations[-1].counts.steps == 20
    record = only_run(tmp_path)
    assert (record.info.attempt, record.info.continues["step"], record.state) == (2, 21, "finished")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 0.01, momentum=0.9)
    scheduler, used = MAKERS["SequentialLR"](optimizer), []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(21 + int(done.stdout.splitlines()[-1])):
            used.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
    assert len(used) in (40, 41)  # older versions of Lightning train on one batch more after such a resume
    check(record, used)


def test_a_checkpoint_without_rates_is_resumed_from(pl, tmp_path):
    save = {"enable_checkpointing": True}
    fit(pl, tmp_path, sgd, callbacks=[saving(pl, tmp_path)], max_steps=8, **save)
    path = tmp_path / "last.ckpt"
    state = torch.load(path, weights_only=True)
    (key,) = (key for key in state["callbacks"] if key.startswith("ScalingLawMonitor"))
    for rates in (None, {}, "nonsense", {"knots": [[2, 1.0], [1, 1.0]]}):
        state["callbacks"][key]["schedule"] = rates
        torch.save(state, path)
        root = tmp_path / str(rates)[:9]
        again = fit(pl, root, sgd, ckpt_path=path)
        assert again.said == []
        assert (only_run(root).schedule, only_run(root).schedule_unknown) == (None, NOT_RECORDED)


def test_a_trainer_that_fits_twice_goes_on(pl, tmp_path):
    spy = fit(pl, tmp_path, scheduled(MAKERS["ExponentialLR"]), max_epochs=2)
    trainer = spy.trainer
    trainer.fit_loop.max_epochs = 4
    trainer.fit(trainer.lightning_module, loader(points(40)), loader())
    record = only_run(tmp_path)
    assert record.info.attempt == 2
    # The second fit makes its optimizer anew.
    check(record, [0.01 * 0.9 ** (step % 20) for step in range(40)])


def test_an_instance_in_a_second_trainer_begins_anew(pl, tmp_path):
    monitor = ScalingLawMonitor(fit=False)
    for name in ("a", "b"):
        spy = fit(pl, tmp_path / name, scheduled(MAKERS["ExponentialLR"]), monitor=monitor)
        check(only_run(tmp_path / name), spy.used)


# It changes nothing, and nothing of it can do harm


def weights(pl, root, monitors, make):
    pl.seed_everything(7)
    module = make_module(pl, scheduled(make))
    trainer = make_trainer(pl, root, monitors, max_epochs=4, val_check_interval=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings(
            "ignore", message=".*lr_scheduler.step.*|.*does not have many workers.*|.*logging interval.*"
        )
        trainer.fit(module, loader(points(40), shuffle=True), loader())
    state = trainer.lr_scheduler_configs[0].scheduler.state_dict()
    return [p.tolist() for p in module.parameters()], str(state).partition(" at 0x")[0], float(torch.rand(()))


@pytest.mark.parametrize("name", ["OneCycleLR", "CyclicLR", "SequentialLR", "LambdaLR"])
def test_weights_are_the_same_to_the_last_bit(pl, tmp_path, name):
    without = weights(pl, tmp_path / "a", [], MAKERS[name])
    assert weights(pl, tmp_path / "b", [ScalingLawMonitor(fit=False)], MAKERS[name]) == without
    assert only_run(tmp_path / "b").schedule_used_until == 40


@pytest.mark.parametrize("broken", ["plan_rates", "take", "_agree", "find_total"])
def test_trouble_with_the_schedule_costs_no_observation(pl, tmp_path, monkeypatch, broken):
    def fail(*args, **kwargs):
        raise MemoryError("injected")

    monitor = ScalingLawMonitor(fit=False)
    owner = "foretrain.lightning.schedule" + (".RateRecorder" if broken == "take" else "")
    monkeypatch.setattr(f"{owner}.{broken}", fail)
    spy = fit(pl, tmp_path, scheduled(MAKERS["StepLR"]), monitor=monitor)
    assert spy.trainer.state.finished and spy.trainer.global_step == 40
    assert len(only_run(tmp_path).observations) == 8


def test_an_observation_in_memory_has_its_schedule(pl, tmp_path, monkeypatch):
    fitter = use_fake_fitter(monkeypatch)
    (tmp_path / "file").touch()  # where it stands no folder can be made, so nothing is saved
    monitor = ScalingLawMonitor(root=str(tmp_path / "file" / "logs"), run="r")
    spy = fit(pl, tmp_path, scheduled(MAKERS["StepLR"]), monitor=monitor)
    request = fitter.made[0].requests[-1]["unsaved"]
    assert [knot[0] for knot in request["schedule"]["used"]["knots"]][-1] == 40
    assert request["schedule"]["plan"]["unknown"] is None
    assert len(spy.used) == 40


def test_what_is_written_is_not_asked_again(pl, tmp_path, monkeypatch):
    fitter = use_fake_fitter(monkeypatch)
    fit(pl, tmp_path, sgd, monitor=ScalingLawMonitor())
    assert all("unsaved" not in request for request in fitter.made[0].requests)


def test_copies_at_any_time(pl, tmp_path):
    copies = []

    class Copier(pl.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            (monitor,) = (c for c in trainer.callbacks if isinstance(c, ScalingLawMonitor))
            copies.extend([copy.deepcopy(monitor), pickle.loads(pickle.dumps(monitor))])

    monitor = ScalingLawMonitor(fit=False)
    spy = fit(pl, tmp_path, scheduled(MAKERS["SequentialLR"]), monitor=monitor, callbacks=[Copier()])
    check(only_run(tmp_path), spy.used)
    state = copies[-1].state_dict()  # before the monitor counted the last batch
    assert {**state, "samples": 160, "distinct": 40} == monitor.state_dict()
    for number, one in enumerate(copies, 2):
        state = one.state_dict()["schedule"]
        assert RateRecorder.from_state(state, 40).to_state()["knots"] == state["knots"]
        assert state["knots"][-1][0] == number // 2


# Rates that lie on a device


class OnDevice(torch.Tensor):
    """A number that tells when it is waited for."""

    waits = 0

    @property
    def device(self):
        return types.SimpleNamespace(type="cuda")

    def __float__(self):
        type(self).waits += 1
        return float(self.detach().numpy())

    def __gt__(self, other):
        type(self).waits += 1
        return super().__gt__(other)


@pytest.mark.parametrize("groups", [1, 2])
def test_no_device_is_waited_for_on_the_training_path(monkeypatch, groups):
    monkeypatch.setattr("foretrain.lightning.schedule.watched_optimizer", lambda trainer: None)
    monkeypatch.setattr("foretrain.lightning.schedule.find_total", lambda trainer: 5000)
    monkeypatch.setattr(OnDevice, "waits", 0)
    progress = types.SimpleNamespace(completed=0)
    step = types.SimpleNamespace(total=progress)
    loop = types.SimpleNamespace(
        automatic_optimization=types.SimpleNamespace(
            optim_progress=types.SimpleNamespace(optimizer=types.SimpleNamespace(step=step))
        ),
        manual_optimization=types.SimpleNamespace(optim_step_progress=None),
    )
    trainer = types.SimpleNamespace(
        fit_loop=types.SimpleNamespace(epoch_loop=loop), global_step=0, lr_scheduler_configs=[],
        lightning_module=types.SimpleNamespace(automatic_optimization=True),
    )  # fmt: skip
    rates = [torch.tensor(1.0).as_subclass(OnDevice) for _ in range(groups)]
    optimizer = types.SimpleNamespace(param_groups=[{"lr": rate} for rate in rates])
    recorder, used = RateRecorder(), []
    for number in range(1, 5001):
        used.append(0.5 * (1 + math.cos(math.pi * number / 5000)))
        with torch.no_grad():
            for rate in rates:
                torch.Tensor.fill_(rate, used[-1])
        recorder.take(trainer, optimizer)
        progress.completed = number
    assert OnDevice.waits == 0
    assert len(recorder._waiting) <= MOST_WAITING
    update = recorder.update(trainer)
    assert 0 < OnDevice.waits <= groups * (MOST_WAITING + 1)
    assert update.plan.unknown == "tensor on a device"
    assert update.used.rates() == pytest.approx(used, abs=1e-3)
    assert recorder.rate == pytest.approx(used[-1])


def test_a_study_of_two_schedules(pl, tmp_path):
    for name in ("StepLR", "CosineAnnealingLR"):
        monitor = ScalingLawMonitor(fit=False, run=name, root=tmp_path / "study")
        fit(pl, tmp_path, scheduled(MAKERS[name]), monitor=monitor)
    runs = read_study(tmp_path / "study").runs
    ends = {name: runs[name].schedule.rates()[-1] for name in runs}
    assert ends == pytest.approx(
        {"StepLR": 0.01 * 0.5**4, "CosineAnnealingLR": 0.01 * 0.5 * (1 + math.cos(math.pi * 39 / 40))},
        abs=1e-5,
    )
    assert not np.allclose(runs["StepLR"].schedule.rates(), runs["CosineAnnealingLR"].schedule.rates())


def test_the_time_for_a_plan_is_bounded():
    """Not a timing: the bounds themselves, which `SECONDS` and the steps always taken come to."""
    assert planning.SECONDS <= 0.15 and planning.ALWAYS_STEPPED <= 5000
