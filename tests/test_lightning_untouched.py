"""Row 19: no random state touched, nothing of the model changed, no hook that reads what is on a device."""

import copy
import importlib
import random
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from foretrain.lightning import ScalingLawMonitor
from foretrain.lightning.training_path import IDLE_HOOKS
from lightning_models import FLAVOURS, loader, make_module, make_trainer, only_run, use_fake_fitter
from processes import alone

OURS = [cls for cls in ScalingLawMonitor.__mro__ if cls.__module__.startswith("foretrain.")]
HOOKS = {n for cls in OURS for n in vars(cls) if n.startswith("on_") or n in ("setup", "teardown")}


def random_states():
    """What every generator of random numbers holds."""
    return random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()  # noqa: NPY002


def trained(pl, root, monitors):
    """All that a training leaves: weights, buffers, optimizer, scheduler, forward passes, random states."""
    pl.seed_everything(3)
    module = make_module(pl, rates=[1e-2, 5e-3, 1e-3])
    module.net = torch.nn.Sequential(
        torch.nn.Dropout(0.3), torch.nn.Linear(4, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 1)
    )

    def configure_optimizers():
        optimizer = torch.optim.Adam(module.parameters(), 1e-2)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 2)]

    module.configure_optimizers = configure_optimizers
    forward, calls = module.net.forward, []
    module.net.forward = lambda x: (calls.append(module.training), forward(x))[1]
    trainer = make_trainer(pl, root, monitors, max_epochs=3, val_check_interval=2)
    trainer.fit(module, loader(shuffle=True), loader())
    (optimizer,), (config,) = trainer.optimizers, trainer.lr_scheduler_configs
    states = [part.state_dict() for part in (module, optimizer, config.scheduler)]
    return copy.deepcopy([*states, calls, trainer.global_step]), random_states()


def same(a, b):
    """Whether two states are equal to the last bit."""
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[name], b[name]) for name in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def compare_trainings(flavour, root):
    """Trains without and with us; whether all that is left is the same, and all random states."""
    with pytest.MonkeyPatch.context() as patch:
        fake = use_fake_fitter(patch)
        pl = importlib.import_module(flavour)
        without, randoms = trained(pl, root / "without", [])
        state, after = trained(pl, root / "with", [ScalingLawMonitor()])
        return same(state, without), after == randoms, len(fake.made[0].requests)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_training_is_the_same_with_us_in_all_it_leaves(tmp_path, flavour):
    assert alone(compare_trainings, flavour, tmp_path) == (True, True, 6)
    assert len(only_run(tmp_path / "with").observations) == 6


def watch_hooks(flavour, root):
    """Trains, and gives the hooks that were called, and those after which a random state was another one."""
    pl = importlib.import_module(flavour)
    called, changed = set(), set()

    def watched(hook, name):
        def watch(self, *args, **kwargs):
            before = random_states()
            try:
                return hook(self, *args, **kwargs)
            finally:
                called.add(name)
                if random_states() != before:
                    changed.add(name)

        return watch

    with pytest.MonkeyPatch.context() as patch:
        use_fake_fitter(patch)
        for name in [*HOOKS, "state_dict"]:
            patch.setattr(ScalingLawMonitor, name, watched(getattr(ScalingLawMonitor, name), name))
        save = pl.callbacks.ModelCheckpoint(root, every_n_train_steps=2)
        options = {"max_epochs": 2, "enable_checkpointing": True}
        trainer = make_trainer(pl, root, [ScalingLawMonitor(), save], **options)
        trainer.fit(make_module(pl), loader(), loader())
    return called, changed


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_every_hook_leaves_the_random_states_as_they_are(tmp_path, flavour):
    called, changed = alone(watch_hooks, flavour, tmp_path)
    path = {"on_train_batch_end", "on_before_optimizer_step", "on_validation_end"}
    assert called >= {*path, "on_save_checkpoint", "on_train_end", "state_dict"}
    assert changed == set()


def hooks_called(pl, trainer, monitor):
    """The hooks that Lightning calls of the monitor in a fit, as its profiler sees them."""
    called = set()

    class Profiler(pl.profilers.Profiler):
        def start(self, action_name):
            callback, _, hook = action_name.rpartition(".")
            if callback.endswith(monitor.state_key):
                called.add(hook)

        def stop(self, action_name):
            pass

    trainer.profiler = Profiler()
    trainer.fit(make_module(pl), loader(), loader())
    return called


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_hooks_with_nothing_to_do_are_not_called_in_a_step(tmp_path, monkeypatch, flavour):
    use_fake_fitter(monkeypatch)
    pl = importlib.import_module(flavour)
    monitor = ScalingLawMonitor()
    called = hooks_called(pl, make_trainer(pl, tmp_path, monitor, max_epochs=2), monitor)
    assert called >= {"on_before_optimizer_step", "on_train_batch_end", "on_validation_end", "on_train_end"}
    assert called.isdisjoint({*IDLE_HOOKS, "on_train_batch_start"})
    for name in (*IDLE_HOOKS, "on_train_batch_start"):  # as any other callback's once the fit is over
        assert name not in vars(monitor)
        assert callable(getattr(monitor, name))


def test_a_copy_of_a_monitor_at_work_has_all_its_hooks(tmp_path, monkeypatch):
    use_fake_fitter(monkeypatch)
    pl = importlib.import_module(FLAVOURS[0])
    monitor, copies = ScalingLawMonitor(), []

    class Copies(pl.Callback):
        def on_validation_end(self, trainer, module):
            assert monitor.on_after_backward is None
            copies.append(copy.deepcopy(monitor))

    make_trainer(pl, tmp_path, [monitor, Copies()], max_epochs=1).fit(make_module(pl), loader(), loader())
    assert copies
    for other in copies:
        other.on_after_backward(None, None)
        assert "on_after_backward" not in vars(other)


def test_hooks_of_the_user_are_called(tmp_path, monkeypatch):
    use_fake_fitter(monkeypatch)
    pl = importlib.import_module(FLAVOURS[0])
    calls = []

    class Mine(ScalingLawMonitor):
        def on_after_backward(self, trainer, module):
            calls.append("subclass")
            super().on_after_backward(trainer, module)

        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            calls.append("start")
            super().on_train_batch_start(trainer, module, batch, batch_idx)

    monitor = Mine(flops_per_sample="measured")
    mine = monitor.on_before_backward = lambda trainer, module, loss: calls.append("instance")
    trainer = make_trainer(pl, tmp_path, monitor, max_epochs=1)
    trainer.fit(make_module(pl), loader(), loader())
    counted = {kind: calls.count(kind) for kind in ("subclass", "instance", "start")}
    assert counted == dict.fromkeys(counted, trainer.global_step)
    assert monitor.on_before_backward is mine
    assert only_run(tmp_path).observations[-1].counts.flops > 0


class OnDevice(torch.Tensor):
    """A tensor whose values cannot be read without waiting for its device, which is an error here."""

    READS = ("item", "tolist", "cpu", "numpy", "__bool__", "__int__", "__float__", "__index__", "nonzero")

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        name = getattr(function, "__name__", "")
        if name in cls.READS or (name == "to" and "cpu" in map(str, (*args[1:], *(kwargs or {}).values()))):
            raise AssertionError(f"`{name}` waits for the device")
        return super().__torch_function__(function, types, args, kwargs or {})


@pytest.mark.parametrize("batch", ["tensor", "texts"])
def test_no_hook_on_the_training_path_reads_a_tensor(tmp_path, monkeypatch, batch):
    use_fake_fitter(monkeypatch)
    pl = importlib.import_module(FLAVOURS[0])
    monitor = ScalingLawMonitor()
    trainer = make_trainer(pl, tmp_path, monitor, max_epochs=1)
    hidden = torch.ones(4, 8).as_subclass(OnDevice)
    with pytest.raises(AssertionError, match="`item` waits"):
        hidden.sum().item()
    given = hidden if batch == "tensor" else {"input_ids": hidden, "attention_mask": hidden.long()}
    seen = []

    class Calls(pl.Callback):
        def on_train_batch_end(self, trainer, module, outputs, data, index):
            for parameter in module.parameters():
                parameter.data = parameter.data.as_subclass(OnDevice)
            for number in range(40):
                monitor.on_before_optimizer_step(trainer, module, trainer.optimizers[0])
                monitor.on_train_batch_end(trainer, module, hidden.sum(), given, number)
                seen.append(number)
            trainer.should_stop = True

    said = []
    monkeypatch.setattr(ScalingLawMonitor, "warn_once", lambda self, key, message: said.append(message))
    trainer.callbacks.append(Calls())
    trainer.fit(make_module(pl), loader(), loader())
    assert seen[-1] == 39
    assert said == []
    assert monitor._counter.batches >= 40
