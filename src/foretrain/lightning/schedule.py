"""The learning rates of a run under way: the used ones, taken at each update, and the planned ones."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from foretrain.knots import KnotBuilder, cut
from foretrain.lightning.facts import watched_optimizer
from foretrain.lightning.planning import NO_OPTIMIZER, plan_rates
from foretrain.lightning.position import NO_END, find_total
from foretrain.observation import Plan, ScheduleUpdate
from foretrain.schedule import Schedule

CLOSE = 1e-3  # how far, as a fraction of the peak rate, the rates used may be from the planned ones
MOST_WAITING = 256  # rates that lie on a device, in memory until a validation waits for it anyway

MOST_GROUPS = 64  # whose rates are recorded one by one: some optimizers have a group for every parameter
MOST_NOTED = 1024  # rates in memory until they are entered, should no validation come

CHANGED, NO_RATE = "changed", "no rate"


class RateRecorder:
    """Takes the learning rate of every update, and plans the rest.

    The rate of an update is the largest over the parameter groups. With several optimizers it is that of the
    first that has a scheduler, at the steps of all of them, which Lightning counts together. Without the fit
    under way, which copies and pickles leave behind, a recorder holds plain numbers.

    Attributes:
        noted: Step and rate of updates that `enter` has not entered yet.
        steps: Counts the optimizer steps, as `completed`; None before the first update.
    """

    def __init__(self) -> None:
        self._used = KnotBuilder()
        self._fault: str | None = None
        self._drop()

    def let_go(self) -> None:
        """Drops what belongs to a fit under way; the next update begins one. Waits for rates on a device."""
        self._read_waiting()
        self._drop()

    def _drop(self) -> None:
        self.noted: list[tuple[int, float]] = []
        self._each: list[float] | None = []  # the last rates by group, where there are several, not too many
        self._plan: Plan | None = None
        self._total: int | None = None
        self._due = True  # a plan is to be made at the next update
        self._failed = False  # whether the rates used have departed from a plan
        self._checked = 0  # up to which step the rates used were compared with the plan
        self._told = self._updates = 0
        self._new = False  # whether the plan was not told yet
        self.steps: Any = None  # counts the optimizer steps
        self._watched: Any = None  # the optimizer, where there are several
        self._waiting: list[tuple[int, list[Any]]] = []
        self._latest: tuple[int, list[Any]] | None = None
        self._every = 1

    def __getstate__(self) -> dict[str, Any]:
        """The recorder without the fit under way."""
        self._read_waiting()
        copy = type(self).__new__(type(self))
        copy.__dict__.update(self.__dict__)
        copy._drop()
        return copy.__dict__

    @property
    def only_notes(self) -> bool:
        """Whether the rates of an optimizer with one group only have to be noted, with their steps."""
        return not self._due and self._watched is None

    @property
    def rate(self) -> float | None:
        """The rate of the last update; None where it is not known. Waits for the device if it lies there."""
        self._read_waiting()
        return None if self._fault else self._used.rate

    @property
    def rates(self) -> tuple[float, ...] | None:
        """The rates of the last update of this fit by parameter group; None where unknown, or too many.

        Waits for the device if they lie there.
        """
        rate = self.rate
        if rate is None or self.steps is None or self._each is None:
            return None
        return tuple(self._each) or (rate,)

    # State in checkpoints

    def to_state(self) -> dict[str, Any]:
        """The rates used as plain values, as a checkpoint holds them."""
        self._read_waiting()
        knots = self._used.knots()
        if not knots:
            return {}
        # The knots are only near the rates; a validation before the next update records the last one.
        return {**Schedule.from_knots(knots, self._used.tolerance).to_json(), "rate": self._used.rate}

    @classmethod
    def from_state(cls, state: Any, step: int) -> RateRecorder:
        """A recorder that goes on from a checkpoint, at a number of steps; an empty one from nonsense."""
        recorder = cls()
        try:
            schedule = Schedule.from_json(state)
        except ValueError:
            return recorder
        knots, rate = cut(schedule.knots, last=step), state.get("rate")
        near = schedule.end <= step and isinstance(rate, float) and bool(knots)
        near = near and abs(rate - knots[-1][1]) <= schedule.tolerance * (1 + 1e-9)
        recorder._used = KnotBuilder.resumed(knots, schedule.tolerance, rate if near else None)
        return recorder

    # On the training path

    def take(self, trainer: Any, optimizer: Any) -> None:
        """Takes the rate of the update under way. Called once or more for each; waits for no device.

        Rates are only noted here: this runs in every training step, and what it touches lies in cold caches.
        """
        if self._due:
            self._begin(trainer, optimizer)
        groups = optimizer.param_groups if self._watched is None else self._watched.param_groups
        rate = -math.inf
        for group in groups:
            other = group["lr"]
            if type(other) is not float:
                self._take_slowly(groups)
                return
            if other > rate:
                rate = other
        if len(groups) > 1:
            self._each = [group["lr"] for group in groups] if len(groups) <= MOST_GROUPS else None
        noted = self.noted
        noted.append((self.steps.completed + 1, rate))
        if len(noted) >= MOST_NOTED:
            self.enter()

    def _take_slowly(self, groups: list[dict[str, Any]]) -> None:
        self.enter()
        step = self.steps.completed + 1
        if (known := self._as_float(step, groups)) is not None:
            self._add(step, known)

    def enter(self) -> None:
        """Enters the rates that were noted."""
        noted = self.noted
        for step, rate in noted:
            self._add(step, rate)
        noted.clear()

    def _add(self, step: int, rate: float) -> None:
        try:
            self._used.add(step, rate)
        except ValueError:
            self._fault = self._fault or NO_RATE  # one that is negative or not finite

    def _begin(self, trainer: Any, optimizer: Any) -> None:
        self._due = False
        loop = trainer.fit_loop.epoch_loop
        automatic = trainer.lightning_module.automatic_optimization
        self._watched = watched_optimizer(trainer)
        try:
            manual = loop.manual_optimization.optim_step_progress
            steps = loop.automatic_optimization.optim_progress.optimizer.step if automatic else manual
            self.steps = steps.total if steps.total.completed == trainer.global_step else _Steps(trainer)
        except AttributeError:  # not public
            self.steps = _Steps(trainer)
        if not optimizer.param_groups:
            self._fault = NO_OPTIMIZER
        self._plan = plan_rates(trainer, optimizer)
        self._total = find_total(trainer)
        self._checked = self.steps.completed
        self._new = True

    def _as_float(self, step: int, groups: list[dict[str, Any]]) -> float | None:
        """The rate as a number; None where there is none, or where that would wait for a device."""
        rates = [group["lr"] for group in groups]
        if any(isinstance(rate, Tensor) and rate.device.type != "cpu" for rate in rates):
            self._keep_waiting(step, rates)
            return None
        return self._largest([float(rate) for rate in rates])

    def _largest(self, rates: list[float]) -> float | None:
        self._each = None if len(rates) > MOST_GROUPS else rates
        return max(rates, default=None)

    def _keep_waiting(self, step: int, rates: list[Any]) -> None:
        # A rate that is a tensor is changed in place.
        self._latest = step, [rate.clone() if isinstance(rate, Tensor) else rate for rate in rates]
        if not self._waiting or step >= self._waiting[-1][0] + self._every:
            self._waiting.append(self._latest)
        if len(self._waiting) > MOST_WAITING:
            del self._waiting[1::2]  # straight lines take their place
            self._every *= 2

    def _read_waiting(self) -> None:
        self.enter()
        waiting, latest = self._waiting, self._latest
        self._waiting, self._latest, self._every = [], None, 1
        for step, rates in [*waiting, *([latest] if latest else [])]:
            if (known := self._largest([float(rate) for rate in rates])) is not None:
                self._add(step, known)

    # At a validation

    def update(self, trainer: Any) -> ScheduleUpdate:
        """What is new since the last update."""
        self._read_waiting()
        if self.steps is not None:
            self._check(trainer)
        knots = [] if self._fault else self._used.knots(self._told)
        used = Schedule.from_knots(knots, self._used.tolerance) if knots else None
        self._told = self._used.anchor
        self._updates += 1
        # Also now and then without need, since a line of the record may be damaged.
        tell = self._new or self._updates & (self._updates - 1) == 0
        self._new = False
        return ScheduleUpdate(used, Plan(None, self._fault) if self._fault else self._plan if tell else None)

    def _check(self, trainer: Any) -> None:
        """Compares what was used with the plan: one that fails is made anew once, and then given up."""
        plan, step, after = self._plan, self._used.step, self._checked
        if plan is None or (plan.schedule is None and plan.unknown != NO_END):
            return
        self._checked = step
        if plan.schedule is not None and not _agree(self._used, plan.schedule, after + 1, step):
            self._due, self._failed = not self._failed, True
        elif self._total != find_total(trainer):
            self._due = True
        else:
            return
        # Until the next update, where a new plan can be made.
        self._plan, self._new = Plan(None, CHANGED), True


class _Steps:
    """Optimizer steps so far, from what Lightning says in public."""

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer

    @property
    def completed(self) -> int:
        return int(self._trainer.global_step)


def _agree(used: KnotBuilder, plan: Schedule, first: int, last: int) -> bool:
    """Whether the rates used from one step to another were the planned ones."""
    first, last = max(first, plan.first), min(last, plan.end)
    known = cut(used.knots(first), first=first, last=last)
    if not known:
        return True
    planned = cut(plan.knots, first=known[0][0], last=known[-1][0])
    apart = CLOSE * max(plan.peak, *(rate for _, rate in known)) + plan.tolerance + used.tolerance
    # Lines are as near everywhere as they are at the knots of both.
    return all(
        abs(rate - cut(other, first=step, last=step)[0][1]) <= apart
        for some, other in ((known, planned), (planned, known))
        for step, rate in some
    )
