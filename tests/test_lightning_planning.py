"""Schedules found ahead of time, against the same schedulers stepped in plain torch; what is refused."""

import copy
import functools
import itertools
import math
import random
import threading
import types
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim import lr_scheduler as schedulers

from foretrain.knots import TOLERANCE
from foretrain.lightning import ahead, planning
from foretrain.lightning.position import TOO_LONG, Position
from foretrain.lightning.vetting import NOT_COPYABLE, OUTSIDE_STATE, SIDE_EFFECTS, Doubt, Vetting


def make_optimizer(rates=(0.1,), kind=torch.optim.SGD, **options):
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates]
    return kind(groups, **({"momentum": 0.9} if kind is torch.optim.SGD else {}), **options)


def stepped(make, total, optimizer=None, events=None):
    """The truth: the rates used by a plain loop, which steps the scheduler after the steps in `events`."""
    optimizer = make_optimizer() if optimizer is None else optimizer
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scheduler, used = make(optimizer), []
        for step in range(1, total + 1):
            used.append(float(max(group["lr"] for group in optimizer.param_groups)))
            optimizer.step()
            if events is None or step in events:
                scheduler.step()
    return used


def plan(
    monkeypatch, scheduler, total, *, step=1, optimizer=None, interval="step", frequency=1, batches=math.inf
):
    """What is planned of one scheduler, at a step of a run without a Trainer."""
    position = Position(step=step, total=total, epoch=0, batch=step - 1, batches=batches, accumulate=1)
    monkeypatch.setattr(planning, "find_position", lambda trainer: position)
    some = [] if scheduler is None else scheduler if isinstance(scheduler, list) else [scheduler]
    configs = [
        types.SimpleNamespace(scheduler=one, interval=interval, frequency=frequency, reduce_on_plateau=False)
        for one in some
    ]
    module = types.SimpleNamespace(automatic_optimization=True)
    monkeypatch.setattr(planning, "_is_overridden", lambda *args: False)
    trainer = types.SimpleNamespace(lightning_module=module, lr_scheduler_configs=configs)
    return planning.plan_rates(trainer, some[0].optimizer if some else optimizer)


def warm(length, step):
    return min(1.0, (step + 1) / length)


def half_cosine(current_step, *, num_warmup_steps, num_training_steps, num_cycles):
    if current_step < num_warmup_steps:
        return float(current_step) / float(max(1, num_warmup_steps))
    progress = float(current_step - num_warmup_steps) / float(max(1, num_training_steps - num_warmup_steps))
    return max(0.0, 0.5 * (1.0 + math.cos(math.pi * float(num_cycles) * 2.0 * progress)))


class Warmup:
    """A callable object, as some write their schedules."""

    def __init__(self, length):
        self.length = length

    def __call__(self, step):
        return min(1.0, (step + 1) / self.length)


class InverseRoot(schedulers.LRScheduler):
    """A user's scheduler that is a function of the step count."""

    def get_lr(self):
        return [base * self.scale(self.last_epoch + 1) for base in self.base_lrs]

    def scale(self, count):
        return min(count / 50, math.sqrt(50 / count))


class GradualWarmup(schedulers.LRScheduler):
    """A wrapper with a state of its own, as found in many code bases."""

    def __init__(self, optimizer, length, after):
        self.length, self.after, self.finished = length, after, False
        super().__init__(optimizer)

    def get_lr(self):
        if self.last_epoch > self.length:
            if not self.finished:
                self.after.base_lrs = list(self.base_lrs)
                self.finished = True
            return self.after.get_last_lr()
        return [base * (self.last_epoch + 1) / (self.length + 1) for base in self.base_lrs]

    def step(self, epoch=None):
        if self.finished and self.after:
            self.after.step()
            self._last_lr = self.after.get_last_lr()
        else:
            super().step()


S = schedulers
MAKERS = {
    "LambdaLR": lambda o: S.LambdaLR(o, lambda step: warm(40, step) * 0.99**step),
    "LambdaLR of a partial": lambda o: S.LambdaLR(
        o, functools.partial(half_cosine, num_warmup_steps=20, num_training_steps=300, num_cycles=0.5)
    ),
    "LambdaLR of an object": lambda o: S.LambdaLR(o, Warmup(30)),
    "LambdaLR of numpy": lambda o: S.LambdaLR(
        o, lambda step: float(np.interp(step, [0, 30, 300], [0.0, 1.0, 0.1]))
    ),
    "MultiplicativeLR": lambda o: S.MultiplicativeLR(o, lambda step: 0.99 if step % 2 else 0.98),
    "StepLR": lambda o: S.StepLR(o, 70, 0.5),
    "MultiStepLR": lambda o: S.MultiStepLR(o, [50, 51, 200], 0.3),
    "ConstantLR": lambda o: S.ConstantLR(o, 0.25, 40),
    "LinearLR": lambda o: S.LinearLR(o, 0.01, 1.0, 60),
    "ExponentialLR": lambda o: S.ExponentialLR(o, 0.99),
    "PolynomialLR": lambda o: S.PolynomialLR(o, 250, 2.0),
    "CosineAnnealingLR": lambda o: S.CosineAnnealingLR(o, 300, 0.001),
    "CosineAnnealingLR beyond its end": lambda o: S.CosineAnnealingLR(o, 130, 0.001),
    "CosineAnnealingWarmRestarts": lambda o: S.CosineAnnealingWarmRestarts(o, 37, 2),
    "CosineAnnealingWarmRestarts even": lambda o: S.CosineAnnealingWarmRestarts(o, 37, 1, 0.01),
    "OneCycleLR": lambda o: S.OneCycleLR(o, 0.5, total_steps=301),
    "OneCycleLR three phases": lambda o: S.OneCycleLR(
        o, 0.5, total_steps=301, three_phase=True, anneal_strategy="linear"
    ),
    "CyclicLR": lambda o: S.CyclicLR(o, 0.01, 0.2, 23, 31),
    "CyclicLR triangular2": lambda o: S.CyclicLR(o, 0.01, 0.2, 40, mode="triangular2"),
    "CyclicLR exp_range": lambda o: S.CyclicLR(o, 0.01, 0.2, 40, mode="exp_range", gamma=0.99),
    "CyclicLR of a function": lambda o: S.CyclicLR(o, 0.01, 0.2, 40, scale_fn=lambda x: 0.5 ** (x - 1)),
    "SequentialLR": lambda o: S.SequentialLR(
        o, [S.LinearLR(o, 0.01, 1.0, 40), S.CosineAnnealingLR(o, 260)], [40]
    ),
    "SequentialLR of three": lambda o: S.SequentialLR(
        o, [S.ConstantLR(o, 0.1, 100), S.ExponentialLR(o, 0.999), S.PolynomialLR(o, 100)], [30, 200]
    ),
    "SequentialLR of functions": lambda o: S.SequentialLR(
        o, [S.LambdaLR(o, lambda step: warm(20, step)), S.LambdaLR(o, lambda step: 0.995**step)], [20]
    ),
    "ChainedScheduler": lambda o: S.ChainedScheduler(
        [S.LinearLR(o, 0.1, 1.0, 50), S.ExponentialLR(o, 0.995)]
    ),
    "ChainedScheduler with a cosine": lambda o: S.ChainedScheduler(
        [S.ConstantLR(o, 0.5, 9), S.CosineAnnealingLR(o, 300)]
    ),
    "of a user": InverseRoot,
    "wrapper with a state": lambda o: GradualWarmup(o, 25, S.CosineAnnealingLR(o, 275)),
    "SWALR": lambda o: torch.optim.swa_utils.SWALR(o, swa_lr=0.05, anneal_epochs=100),
}  # fmt: skip


def check(found, used, first=1):
    assert found.unknown is None
    assert (found.schedule.first, found.schedule.end) == (first, len(used))
    error = np.abs(found.schedule.rates() - used[first - 1 :]).max()
    assert error <= found.schedule.tolerance * (1 + 1e-9) <= 1e-3 * max(used)


@pytest.mark.parametrize("name", MAKERS)
def test_the_plan_is_what_the_scheduler_does(monkeypatch, name):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scheduler = MAKERS[name](make_optimizer())
        check(plan(monkeypatch, scheduler, 300), stepped(MAKERS[name], 300))


@pytest.mark.parametrize("name", MAKERS)
def test_a_plan_made_on_the_way_goes_on(monkeypatch, name):
    optimizer = make_optimizer()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scheduler = MAKERS[name](optimizer)
        for _ in range(110):
            optimizer.step()
            scheduler.step()
    check(plan(monkeypatch, scheduler, 300, step=111), stepped(MAKERS[name], 300), first=111)


def test_without_a_scheduler_the_rate_is_constant(monkeypatch):
    found = plan(monkeypatch, None, 10**9, optimizer=make_optimizer([0.1, 0.3]))
    assert found.schedule.knots == [(1, 0.3), (10**9, 0.3)]
    assert found.unknown is None


def test_the_largest_group_counts(monkeypatch):
    def make(optimizer):
        return S.LambdaLR(optimizer, [lambda step: 0.9**step, lambda step: 0.99**step])

    rates = [0.1, 0.01]
    used = stepped(make, 100, make_optimizer(rates))
    check(plan(monkeypatch, make(make_optimizer(rates)), 100), used)
    assert used[0] == 0.1 and used[-1] == pytest.approx(0.01 * 0.99**99)


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD])
@pytest.mark.parametrize("name", ["OneCycleLR", "CyclicLR", "SequentialLR"])
def test_any_optimizer(monkeypatch, kind, name):
    used = stepped(MAKERS[name], 200, make_optimizer(kind=kind))
    check(plan(monkeypatch, MAKERS[name](make_optimizer(kind=kind)), 200), used)


@pytest.mark.parametrize("name", ["LambdaLR", "CosineAnnealingLR", "ExponentialLR"])
def test_rates_that_are_tensors(monkeypatch, name):
    scheduler = MAKERS[name](make_optimizer([torch.tensor(0.1)]))
    found = plan(monkeypatch, scheduler, 100)
    assert float(scheduler.optimizer.param_groups[0]["lr"]) == pytest.approx(stepped(MAKERS[name], 1)[0])
    assert found.schedule.rates() == pytest.approx(stepped(MAKERS[name], 100), abs=2e-5)


@pytest.mark.parametrize(
    ("interval", "frequency", "batches"),
    [("epoch", 1, 7), ("epoch", 3, 7), ("step", 2, math.inf), ("step", 3, 7), ("step", 1, 7)],
)
def test_rhythms(monkeypatch, interval, frequency, batches):
    def make(optimizer):
        return S.ExponentialLR(optimizer, 0.9)

    if interval == "epoch":
        events = {step for step in range(1, 101) if step % batches == 0 and step // batches % frequency == 0}
    else:
        events = {step for step in range(1, 101) if ((step - 1) % batches + 1) % frequency == 0}
    options = {"interval": interval, "frequency": frequency, "batches": batches}
    check(plan(monkeypatch, make(make_optimizer()), 100, **options), stepped(make, 100, events=events))


def test_two_schedulers_of_one_optimizer(monkeypatch):
    optimizer = make_optimizer()
    pair = [S.LinearLR(optimizer, 0.1, 1.0, 30), S.StepLR(optimizer, 50)]
    found = plan(monkeypatch, pair, 100)
    both = make_optimizer()
    pair = [S.LinearLR(both, 0.1, 1.0, 30), S.StepLR(both, 50)]
    used = []
    for _ in range(100):
        used.append(both.param_groups[0]["lr"])
        both.step()
        for one in pair:
            one.step()
    check(found, used)


@settings(max_examples=200, deadline=None)
@given(
    batches=st.integers(1, 12),
    accumulate=st.integers(1, 5),
    frequency=st.integers(1, 6),
    interval=st.sampled_from(["step", "epoch"]),
    start=st.integers(1, 40),
    total=st.integers(1, 60),
)
def test_when_schedulers_are_due(batches, accumulate, frequency, interval, start, total):
    """Against Lightning's loop written out: batch by batch, with its conditions."""
    due, at, step = [], None, 0
    for epoch, batch in itertools.product(range(80), range(batches)):
        ready = batch + 1
        if ready % accumulate and ready != batches:
            continue
        step += 1
        if step == start:
            at = Position(start, total, epoch, batch, batches, accumulate)
        if interval == "step" and (batch + 1) % frequency == 0:
            due.append(step)
        if interval == "epoch" and ready == batches and (epoch + 1) % frequency == 0:
            due.append(step)
    if at is not None:
        assert list(at.due(interval, frequency)) == [step for step in due if start <= step < total]


@settings(max_examples=100, deadline=None)
@given(
    accumulate=st.integers(1, 5),
    frequency=st.integers(1, 6),
    start=st.integers(1, 30),
    total=st.integers(1, 60),
)
def test_when_schedulers_are_due_in_an_endless_stream(accumulate, frequency, start, total):
    due = [step for step in range(start, total) if step * accumulate % frequency == 0]
    at = Position(start, total, 0, start * accumulate - 1, math.inf, accumulate)
    assert list(at.due("step", frequency)) == due
    with pytest.raises(Doubt, match="epochs of unknown length"):
        at.due("epoch", 1)


# Far ahead

LONG = 20_000
LONG_MAKERS = {
    "function": lambda o: S.LambdaLR(
        o, functools.partial(half_cosine, num_warmup_steps=6000, num_training_steps=LONG, num_cycles=0.5)
    ),
    "jumps": lambda o: S.LambdaLR(o, lambda step: 1.0 if step < 13_333 else 0.2 if step < 16_444 else 0.01),
    "cosine": lambda o: S.CosineAnnealingLR(o, LONG),
    "steps": lambda o: S.StepLR(o, 3_333, 0.5),
    "milestones": lambda o: S.MultiStepLR(o, [4_345, 4_346, 17_001]),
    "one cycle": lambda o: S.OneCycleLR(o, 0.5, total_steps=LONG + 1),
    "cycles": lambda o: S.CyclicLR(o, 0.01, 0.2, 1000),
    "restarts": lambda o: S.CosineAnnealingWarmRestarts(o, 2000, 2),
    "sequence": lambda o: S.SequentialLR(
        o,
        [S.LinearLR(o, 0.01, 1.0, 2000), S.ConstantLR(o, 1.0, 1), S.LinearLR(o, 1.0, 0.0, 5_000)],
        [2000, 15_000],
    ),
    "chain": lambda o: S.ChainedScheduler(
        [S.LinearLR(o, 0.1, 1.0, 5000), S.StepLR(o, 7_000), S.ExponentialLR(o, 0.9998)]
    ),
    "of a user": InverseRoot,
    "exponential": lambda o: S.ExponentialLR(o, 0.9998),
    "polynomial": lambda o: S.PolynomialLR(o, LONG, 0.5),
}  # fmt: skip


@pytest.mark.parametrize("name", LONG_MAKERS)
def test_long_plans_are_not_stepped_to_the_end(monkeypatch, name):
    taken = 0
    original = S.LRScheduler.step

    def step(self, *args):
        nonlocal taken
        taken += 1
        return original(self, *args)

    make = LONG_MAKERS[name]
    used = stepped(make, LONG)
    scheduler = make(make_optimizer())
    with monkeypatch.context() as patch:
        patch.setattr(S.LRScheduler, "step", step)
        patch.setattr(planning, "SECONDS", 60.0)  # that of a slow machine
        found = plan(monkeypatch, scheduler, LONG)
    assert taken <= 4 * planning.ALWAYS_STEPPED
    check(found, used)


def test_a_plan_that_takes_too_long_ends_early_and_says_so(monkeypatch):
    monkeypatch.setattr(planning, "SECONDS", 0.0)
    make = MAKERS["MultiplicativeLR"]
    found = plan(monkeypatch, make(make_optimizer()), LONG)
    assert found.unknown == TOO_LONG
    assert planning.ALWAYS_STEPPED <= found.schedule.end < LONG
    assert found.schedule.rates() == pytest.approx(stepped(make, found.schedule.end), abs=2e-5)


def test_far_ahead_may_take_too_long_too(monkeypatch):
    monkeypatch.setattr(planning, "SECONDS", 0.0)

    def make(optimizer):
        return S.LambdaLR(optimizer, lambda step: 1.0 if step < 12_000 else 0.5 + 0.5 * math.sin(step))

    found = plan(monkeypatch, make(make_optimizer()), LONG)
    assert found.unknown == TOO_LONG
    assert 9_000 <= found.schedule.end <= 12_000
    assert found.schedule.rates() == pytest.approx([0.1] * found.schedule.end)


def test_a_cycle_in_step_with_the_grid_is_seen(monkeypatch):
    total = 8192 * ahead.GRID
    for period in (4096, 2048, 1024):
        builder = planning.KnotBuilder()
        ahead.sample(lambda step, p=period: abs((step % p) / p - 0.5), 0 + 1, total // 64, builder, math.inf)
        told = np.interp(np.arange(1, total // 64 + 1), *zip(*builder.knots(), strict=True))
        truth = np.abs((np.arange(1, total // 64 + 1) % period) / period - 0.5)
        assert np.abs(told - truth).max() < 4 * TOLERANCE + builder.tolerance


def test_a_function_that_depends_on_its_past_is_not_taken_for_one_of_the_count(monkeypatch):
    class Halving(S.LRScheduler):
        def get_lr(self):
            return [
                group["lr"] * (0.9999 if self.last_epoch else 1.0) for group in self.optimizer.param_groups
            ]

    monkeypatch.setattr(planning, "SECONDS", 0.0)
    assert plan(monkeypatch, Halving(make_optimizer()), LONG).unknown == TOO_LONG


class Bolted(S.LRScheduler):
    """A user's scheduler in the style of many, with both forms."""

    def get_lr(self):
        if not self._get_lr_called_within_step:
            warnings.warn(
                "To get the last learning rate, please use `get_last_lr()`.", UserWarning, stacklevel=2
            )
        if not self.last_epoch:
            return [base * 0.001 for base in self.base_lrs]
        return [group["lr"] * 1.0001 for group in self.optimizer.param_groups]

    def _get_closed_form_lr(self):
        return [base * 0.001 * 1.0001**self.last_epoch for base in self.base_lrs]


class LateSwitch(S.LRScheduler):
    """Its rate depends on what it did before, but not at first."""

    def __init__(self, optimizer):
        self.late = False
        super().__init__(optimizer)

    def get_lr(self):
        if self.last_epoch == 7_001:
            self.late = True
        return [base * (0.5 if self.late else 1.0) for base in self.base_lrs]


class Overridden(S.StepLR):
    """Torch's scheduler, with another rule."""

    def get_lr(self):
        return [base * 0.9999**self.last_epoch for base in self.base_lrs]


def late_warmup(optimizer):
    return GradualWarmup(optimizer, 7_000, S.CosineAnnealingLR(optimizer, 3000))


def late_product(optimizer):
    return S.MultiplicativeLR(optimizer, lambda step: 1.0 if step < 7_000 else 0.9)


@pytest.mark.parametrize("make", [Bolted, LateSwitch, lambda o: Overridden(o, 5), late_warmup, late_product])
def test_what_is_said_of_far_ahead_is_right_or_nothing(monkeypatch, make):
    used = stepped(make, 10_000)
    quick = plan(monkeypatch, make(make_optimizer()), 10_000)
    assert quick.unknown == (None if make is Bolted else quick.unknown)
    assert quick.schedule.rates() == pytest.approx(used[: quick.schedule.end], abs=1e-3 * max(used))
    monkeypatch.setattr(planning, "SECONDS", 60.0)
    check(plan(monkeypatch, make(make_optimizer()), 10_000), used)


def test_a_rate_that_was_changed_by_hand_is_gone_on_from(monkeypatch):
    def make(optimizer):
        scheduler = S.ExponentialLR(optimizer, 0.9999)
        for group in optimizer.param_groups:
            group["lr"] = 0.7
        return scheduler

    monkeypatch.setattr(planning, "SECONDS", 60.0)
    check(plan(monkeypatch, make(make_optimizer()), 6000), stepped(make, 6000))


# Nothing is touched


def everything(scheduler):
    state = {
        name: value for name, value in vars(scheduler).items() if name not in ("optimizer", "_schedulers")
    }
    parts = [everything(part) for part in getattr(scheduler, "_schedulers", [])]
    groups = [{k: v for k, v in g.items() if k != "params"} for g in scheduler.optimizer.param_groups]
    return copy.deepcopy((state, parts, groups, scheduler.optimizer.state_dict()))


def random_states():
    return random.getstate(), torch.get_rng_state().tolist(), np.random.get_state()[1].tolist()  # noqa: NPY002


TOLD_WHOLE = [name for name in MAKERS if name not in ("wrapper with a state", "LambdaLR of an object")]


@pytest.mark.parametrize("name", TOLD_WHOLE)
def test_the_users_objects_and_random_numbers_stay_as_they_are(monkeypatch, name):
    optimizer = make_optimizer([0.1, 0.2])
    scheduler = MAKERS[name](optimizer)
    hooked = []
    optimizer.register_step_pre_hook(lambda *args: hooked.append(1))
    before, drawn, step = repr(everything(scheduler)), random_states(), optimizer.step
    plan(monkeypatch, scheduler, 6000)
    assert repr(everything(scheduler)) == before and random_states() == drawn
    assert optimizer.step is step and not hooked


def test_functions_are_called_only_if_they_leave_no_trace(monkeypatch):
    calls = []

    def trace(step):
        calls.append(step)
        return 1.0

    scheduler = S.LambdaLR(make_optimizer(), trace)
    made = len(calls)
    assert plan(monkeypatch, scheduler, 100).unknown == SIDE_EFFECTS
    assert len(calls) == made


# What is refused

COUNTS = {"calls": 0}
SCALE = 0.5
ITEMS = [1.0, 0.5]


def helper(step):
    return 1.0 / (1 + step)


def noisy_helper(step):
    print(step)
    return 1.0


def counting(step):
    global SCALE
    SCALE = 0.4
    return 1.0


def nested(step):
    def inner():
        COUNTS["calls"] += 1
        return 1.0

    return inner()


def aliased(step):
    items = ITEMS
    items += [1.0]
    return 1.0


def imported(step):
    import os

    return len(os.sep)


def stored(step):
    helper.count = step
    return 1.0


def nonlocal_counter():
    count = 0

    def function(step):
        nonlocal count
        count += 1
        return 1.0 / count

    return function


class Module(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale, self.calls = 0.5, 0
        self.register_buffer("moving", torch.ones(()))
        self.hparams = types.SimpleNamespace(warmup=10, milestones=[1, 2])

    @property
    def doubled(self):
        return 2 * self.scale

    @property
    def counted(self):
        self.calls += 1
        return 1.0

    def schedule(self, step):
        return min(1.0, step / self.hparams.warmup) * self.doubled

    def counting_schedule(self, step):
        self.calls += 1
        return 1.0

    def forward(self, x):
        return x


MODULE = Module()
FUNCTIONS = {
    None: {
        "plain": lambda step: 0.9**step,
        "helper": lambda step: helper(step) * SCALE,
        "math": lambda step: 0.5 * (1 + math.cos(math.pi * min(step, 10) / 10)),
        "items": lambda step: ITEMS[min(step, len(ITEMS) - 1)],
        "comprehension": lambda step: sum([x * step for x in ITEMS if x > 0]) + max(0, *(x for x in ITEMS)),
        "numpy": lambda step: np.clip(step / 10, 0.0, 1.0).item(),
        "torch": lambda step: torch.clamp(torch.tensor(step / 10), 0, 1).item(),
        "attribute": lambda step: min(1.0, step / MODULE.hparams.warmup),
        "property": lambda step: MODULE.doubled,
        "method": MODULE.schedule,
        "partial": functools.partial(half_cosine, num_warmup_steps=1, num_training_steps=9, num_cycles=1),
        "object": Warmup(3),
        "cached": functools.lru_cache(helper),
        "builtin": math.exp,
        "choice": lambda step: 1.0 if step < 3 else 0.1 if not step % 7 else 0.2,
    },
    SIDE_EFFECTS: {
        "append": lambda step: ITEMS.append(step) or 1.0,
        "print": lambda step: print(step) or 1.0,
        "through a helper": lambda step: noisy_helper(step),
        "helper in a list": functools.partial(lambda step, f: f[0](step), f=[noisy_helper]),
        "default": lambda step, f=noisy_helper: f(step),
        "global": counting,
        "nested": nested,
        "alias": aliased,
        "import": imported,
        "attribute of a function": stored,
        "nonlocal": nonlocal_counter(),
        "random": lambda step: random.random(),
        "numpy's random": lambda step: np.random.rand(),  # noqa: NPY002
        "torch's random": lambda step: torch.rand(()).item(),
        "seed": lambda step: torch.manual_seed(step) and 1.0,
        "out": lambda step: float(np.multiply(step, 1.0, out=np.zeros(()))),
        "method": MODULE.counting_schedule,
        "attribute": lambda step: setattr(MODULE, "calls", step) or 1.0,
        "property": lambda step: MODULE.counted,
        "module": lambda step: MODULE(step),
        "whole object": lambda step: len(str(MODULE)) * 1.0,
        "evaluated": lambda step: eval("1.0"),
        "comprehension": lambda step: sum([ITEMS.pop() for _ in range(1)]),
        "item": lambda step: COUNTS.__setitem__("calls", step) or 1.0,
        "update": lambda step: COUNTS.update(calls=step) or 1.0,
    },
    OUTSIDE_STATE: {
        "tensor": lambda step: MODULE.moving.item(),
        "missing": lambda step: MODULE.no_such_thing,
        "progress": lambda step: 0.9**MODULE.global_step,
    },
    NOT_COPYABLE: {
        "iterator": functools.partial(lambda step, numbers: next(numbers), numbers=itertools.count()),
        "lock": type("Locked", (), {"__init__": lambda self: setattr(self, "lock", threading.Lock()),
                                    "__call__": lambda self, step: 1.0})(),
        "object with a module": type("Holder", (), {"__init__": lambda self: setattr(self, "net", MODULE),
                                                    "__call__": lambda self, step: 1.0})(),
        "large": type("Large", (), {"__init__": lambda self: setattr(self, "x", list(range(10**5)) and
                                    [object() for _ in range(3)]), "__call__": lambda self, step: 1.0})(),
    },
}  # fmt: skip
CASES = [(reason, name) for reason, named in FUNCTIONS.items() for name in named]


@pytest.mark.parametrize(("reason", "name"), CASES)
def test_what_may_be_called(monkeypatch, reason, name, capsys):
    function = FUNCTIONS[reason][name]
    before = copy.deepcopy((COUNTS, ITEMS, SCALE, MODULE.calls))
    if reason is None:
        Vetting().run(function)
        used = [function(step) for step in range(30)]
        if min(used) >= 0:
            scheduler = S.LambdaLR(make_optimizer([1.0]), function)
            assert plan(monkeypatch, scheduler, 30).schedule.rates() == pytest.approx(
                used, abs=2e-4 * max(used)
            )
    else:
        with pytest.raises(Doubt, match=reason):
            vetting = Vetting()
            vetting.run(function)
            vetting.look(function)
        scheduler = S.StepLR(make_optimizer(), 3)
        scheduler.kept = function
        assert plan(monkeypatch, scheduler, 30).unknown == reason
    assert (COUNTS, ITEMS, SCALE, MODULE.calls) == before
    assert capsys.readouterr().out == ""


class Counting(S.LRScheduler):
    """A scheduler that writes into the world outside of it."""

    def get_lr(self):
        COUNTS["calls"] += 1
        return list(self.base_lrs)


class Printing(S.StepLR):
    def step(self, epoch=None):
        self.report()
        super().step()

    def report(self):
        print(self.last_epoch)


class Holding(S.StepLR):
    def __init__(self, optimizer, held):
        self.held = held
        super().__init__(optimizer, 3)


def with_generator(optimizer):
    return Holding(optimizer, (x for x in [1]))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (Counting, SIDE_EFFECTS),
        (lambda o: Printing(o, 3), SIDE_EFFECTS),
        (with_generator, NOT_COPYABLE),
        (lambda o: Holding(o, MODULE), NOT_COPYABLE),
        (lambda o: Holding(o, threading.Lock()), NOT_COPYABLE),
        (lambda o: Holding(o, make_optimizer()), NOT_COPYABLE),
        (lambda o: Holding(o, np.zeros(2_000_000)), NOT_COPYABLE),
        (lambda o: Holding(o, list(range(100)) and [[i] for i in range(30_000)]), NOT_COPYABLE),
        (lambda o: S.ReduceLROnPlateau(o), "reactive"),
        (lambda o: Holding(o, S.ReduceLROnPlateau(o)), "reactive"),
    ],
)
def test_schedulers_that_are_refused(monkeypatch, make, reason, capsys):
    optimizer = make_optimizer()
    scheduler = make(optimizer)
    capsys.readouterr()
    before = dict(COUNTS)
    found = plan(monkeypatch, scheduler, 100)
    assert (found.schedule, found.unknown) == (None, reason)
    assert before == COUNTS and capsys.readouterr().out == ""


@pytest.mark.parametrize("bad", [math.nan, -1.0, math.inf])
def test_a_plan_ends_where_the_scheduler_fails(monkeypatch, bad):
    def fails(step):
        return 1.0 if step < 30 else 1 / 0

    found = plan(monkeypatch, S.LambdaLR(make_optimizer(), fails), 100)
    assert (found.schedule.end, found.unknown) == (30, "fails")
    strange = S.LambdaLR(make_optimizer(), lambda step: 1.0 if step < 30 else bad)
    found = plan(monkeypatch, strange, 100)
    assert (found.schedule.end, found.unknown) == (30, "fails")
    # Stepped once too often, this one raises in the run, too.
    found = plan(monkeypatch, S.OneCycleLR(make_optimizer(), 0.5, total_steps=50), 100)
    assert (found.schedule.end, found.unknown) == (51, "fails")


def test_schedulers_of_several_optimizers_are_not_planned_together(monkeypatch):
    pair = [S.StepLR(make_optimizer(), 3), S.StepLR(make_optimizer(), 3)]
    assert plan(monkeypatch, pair, 100).unknown == "several optimizers"


def test_no_trouble_of_ours_comes_out(monkeypatch):
    monkeypatch.setattr(planning, "Vetting", lambda optimizer: 1 / 0)
    assert plan(monkeypatch, S.StepLR(make_optimizer(), 3), 100).unknown == "fails"
    monkeypatch.undo()
    monkeypatch.setattr(planning.copy, "deepcopy", lambda *args: 1 / 0)
    assert plan(monkeypatch, S.StepLR(make_optimizer(), 3), 100).unknown == NOT_COPYABLE
