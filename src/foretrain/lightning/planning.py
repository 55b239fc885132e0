"""The learning rates to come: a run's schedulers, copied and stepped ahead on a stand-in optimizer."""

from __future__ import annotations

import copy
import heapq
import logging
import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from typing import Any

import numpy as np
import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from foretrain.knots import KnotBuilder
from foretrain.lightning.ahead import by_count, sample
from foretrain.lightning.position import TOO_LONG, Position, find_position
from foretrain.lightning.vetting import NOT_COPYABLE, Doubt, Vetting
from foretrain.observation import Plan
from foretrain.schedule import Schedule

ALWAYS_STEPPED = 512  # scheduler steps that are taken whatever time they need
SECONDS = 0.15  # for further steps, or for rates far ahead

FAILS, MANUAL, NO_OPTIMIZER, ON_DEVICE = "fails", "manual", "no optimizer", "tensor on a device"
OVERRIDDEN, REACTIVE, SEVERAL = "overridden", "reactive", "several optimizers"

log = logging.getLogger(__name__)


def plan_rates(trainer: Any, optimizer: Any) -> Plan:
    """The rates from the optimizer step under way to the planned end.

    Nothing of the run's own is stepped, changed or called, but functions of which it is certain that they
    leave no trace; no random number is drawn.

    Args:
        trainer: The Trainer, within an optimizer step, before its schedulers are stepped.
        optimizer: The optimizer whose rates are wanted.

    Returns:
        The plan. Where it ends early or is none, it says why.
    """
    try:
        return _plan(trainer, optimizer)
    except Doubt as doubt:
        return Plan(None, str(doubt))
    except Exception:  # schedulers and their functions are anyone's
        log.debug("The learning rates to come could not be found.", exc_info=True)
        return Plan(None, FAILS)


def _plan(trainer: Any, optimizer: Any) -> Plan:
    module, configs = trainer.lightning_module, trainer.lr_scheduler_configs
    if not module.automatic_optimization:
        raise Doubt(MANUAL)
    if any(_is_reactive(config.scheduler) or config.reduce_on_plateau for config in configs):
        raise Doubt(REACTIVE)
    if configs and _is_overridden(module, "lr_scheduler_step"):
        raise Doubt(OVERRIDDEN)
    if not optimizer.param_groups:
        raise Doubt(NO_OPTIMIZER)
    rates = [group["lr"] for group in optimizer.param_groups]
    if any(isinstance(rate, torch.Tensor) and rate.device.type != "cpu" for rate in rates):
        raise Doubt(ON_DEVICE)
    position = find_position(trainer)
    dues = [position.due(config.interval, config.frequency) for config in configs]
    lates = [config.interval == "epoch" for config in configs]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # schedulers warn of how they are stepped
        walk = _Walk([config.scheduler for config in configs], optimizer, position)
        return walk.plan(dues, lates)


class _Walk:
    """Steps copies of schedulers from a position to the end."""

    def __init__(self, schedulers: list[Any], optimizer: Any, position: Position) -> None:
        owners = [scheduler.optimizer for scheduler in schedulers] or [optimizer]
        if any(owner is not owners[0] for owner in owners):
            raise Doubt(SEVERAL)
        vetting = Vetting(owners[0])
        for scheduler in schedulers:
            vetting.look(scheduler)
        self._position = position
        self._originals, self._owner, self._shared = schedulers, owners[0], vetting.shared
        self._schedulers, self._groups = self._copies()
        self._builder = KnotBuilder()

    def _copies(self) -> tuple[list[Any], list[dict[str, Any]]]:
        """The schedulers on an optimizer of their own, and its groups."""
        owner = stand_in(self._owner)
        try:
            copied = copy.deepcopy(self._originals, {**self._shared, id(self._owner): owner})
        except Exception:
            raise Doubt(NOT_COPYABLE) from None
        return copied, owner.param_groups

    def plan(self, dues: list[Sequence[int]], lates: list[bool]) -> Plan:
        events: Iterator[tuple[int, bool, int]] = heapq.merge(
            *(
                zip(due, repeat(late), repeat(i))
                for i, (due, late) in enumerate(zip(dues, lates, strict=True))
            )
        )
        total, add, reached = self._position.total, self._builder.add, self._position.step
        rate, deadline = _largest(self._groups), math.inf
        early: list[float] = []
        unknown, slack = None, 0.0
        try:
            for count, (step, _, index) in enumerate(events):
                if step >= reached:  # else another scheduler was stepped after the same step
                    add(reached, rate)
                    add(step, rate)
                if count == ALWAYS_STEPPED:
                    deadline = time.perf_counter() + SECONDS
                    ahead = self._far_ahead(dues, early)
                    if ahead is not None:
                        slack, reached = sample(ahead, step, total, self._builder, deadline)
                        unknown = None if reached == total else TOO_LONG
                        break
                if count > ALWAYS_STEPPED and not count % 16 and time.perf_counter() > deadline:
                    unknown, reached = TOO_LONG, step
                    break
                self._schedulers[index].step()
                rate, reached = _largest(self._groups), step + 1
                if count < ALWAYS_STEPPED:
                    early.append(rate)
            else:
                add(reached, rate)
                add(total, rate)
        except Exception:  # a user's scheduler may raise anything, and would in the run
            unknown = FAILS
        knots = self._builder.knots()
        return Plan(Schedule.from_knots(knots, self._builder.tolerance + slack) if knots else None, unknown)

    def _far_ahead(self, dues: list[Sequence[int]], early: list[float]) -> Callable[[int], float] | None:
        """The rate of any step, where one scheduler steps at each and its rate depends on the count alone."""
        if len(dues) != 1 or not isinstance(dues[0], range) or dues[0].step != 1:
            return None
        (scheduler,), groups = self._copies()
        try:
            function = by_count(scheduler, groups)
            if function is None:
                return None
            count, first = getattr(scheduler, "last_epoch", 0), dues[0][0]
            tried = sorted({int(x) for x in np.linspace(0, len(early) - 1, 64)} | {0, 1, 2})
            close = 1e-6 * max(early)
            for index in reversed(tried):  # it might be disturbed, or changed by hand
                if not abs(float(max(function(count + index + 1))) - early[index]) <= close:
                    return None
        except Exception:
            return None
        return lambda step: float(max(function(count + step - first)))


def stand_in(optimizer: Any) -> Any:
    """An optimizer with the same groups and settings over parameters of its own, for schedulers to act on."""
    groups = []
    for group in optimizer.param_groups:
        settings = {name: _own(value) for name, value in group.items() if name != "params"}
        groups.append({**settings, "params": [torch.nn.Parameter(torch.zeros(1, device="cpu"))]})
    double = torch.optim.SGD(groups, lr=0.1)
    double.defaults = dict(optimizer.defaults)

    def step(*args: Any, **kwargs: Any) -> None:
        """Does nothing, and looks like a step that schedulers have seen: they warn where it does not."""

    step._wrapped_by_lr_sched = step._with_counter = True  # type: ignore[attr-defined]
    double.step = step  # type: ignore[method-assign]
    double._opt_called, double._step_count = True, 1  # type: ignore[attr-defined]
    return double


def _is_reactive(scheduler: Any) -> bool:
    parts = getattr(scheduler, "_schedulers", None) or []
    named = [value for value in getattr(scheduler, "__dict__", {}).values() if not callable(value)]
    return any(isinstance(part, ReduceLROnPlateau) for part in [scheduler, *parts, *named])


def _is_overridden(module: Any, name: str) -> bool:
    owner = next((cls for cls in type(module).__mro__ if name in vars(cls)), None)
    root = "" if owner is None else owner.__module__.partition(".")[0]
    return name in vars(module) or root not in ("lightning", "pytorch_lightning")


def _own(value: Any) -> Any:
    return value.clone() if isinstance(value, torch.Tensor) else value


def _largest(groups: list[dict[str, Any]]) -> float:
    return float(max(group["lr"] for group in groups))
