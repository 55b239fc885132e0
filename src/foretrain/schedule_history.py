"""The learning rates of a run, put together from what its attempts recorded of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from foretrain.knots import MAX_KNOTS, Knots, cut, splice, thin
from foretrain.observation import NOT_RECORDED, Plan, RunInfo, ScheduleUpdate
from foretrain.schedule import Schedule


@dataclass
class ScheduleHistory:
    """What is recorded of the learning rates of one attempt, or of a run.

    Attributes:
        used: Knots of the rates used.
        tolerance: Largest error of a rate between them.
        plan: The newest plan; None where none is recorded.
    """

    used: Knots = field(default_factory=list)
    tolerance: float = 0.0
    plan: Plan | None = None

    @property
    def end(self) -> int:
        """The last step whose rate is recorded, 0 where there is none."""
        return self.used[-1][0] if self.used else 0

    def add(self, update: ScheduleUpdate) -> None:
        """Takes what a line tells."""
        self.plan = update.plan or self.plan
        if update.used is not None:
            self.used = splice(self.used, update.used.knots)
            self.tolerance = max(self.tolerance, update.used.tolerance)
            if len(self.used) > 4 * MAX_KNOTS:  # a schedule that keeps on changing its tolerance
                self.used, self.tolerance = thin(self.used, self.tolerance, MAX_KNOTS)

    def copy(self) -> ScheduleHistory:
        """The same, to be added to."""
        return ScheduleHistory(self.used, self.tolerance, self.plan)

    def describe(self, state: str) -> tuple[Schedule | None, int, str | None]:
        """The fields `schedule`, `schedule_used_until` and `schedule_unknown` of a run in this state."""
        told = None if self.plan is None or self.used else self.plan.unknown
        if not self.used or self.used[0][0] != 1:
            return None, 0, told or NOT_RECORDED
        schedule = Schedule.from_knots(self.used, self.tolerance)
        used_until = schedule.end
        if state == "finished":
            return schedule, used_until, None
        if self.plan is None:
            return schedule, used_until, NOT_RECORDED
        if self.plan.schedule is not None:
            schedule = schedule.joined(self.plan.schedule)
        return schedule, used_until, self.plan.unknown


def merge_schedules(
    parts: Iterable[tuple[RunInfo, str, ScheduleHistory]], merged: Mapping[str, ScheduleHistory]
) -> ScheduleHistory:
    """One run's learning rates, by the rule of its observations: the newest attempt's, then what came before.

    Args:
        parts: Of each attempt, in order: its header, its state, and what it recorded.
        merged: The same of other runs, which this one may continue.
    """
    total = ScheduleHistory()
    for info, state, own in parts:
        past, keeps = total, state != "finished"
        if info.continues is None:
            if not own.used:
                continue
            start = own.used[0][0] - 1
        elif info.continues["step"] <= 0:
            start, past, keeps = 0, ScheduleHistory(), False
        else:
            start = int(info.continues["step"])
            if info.continues["run"] != info.run:
                past = merged.get(info.continues["run"], ScheduleHistory())
        # A stretch between two attempts that neither recorded is bridged by a straight line.
        used, tolerance = splice(cut(past.used, last=start), own.used), max(past.tolerance, own.tolerance)
        if keeps:
            # As far as the abandoned steps were not passed, they are the best that is known of what comes.
            end = used[-1][0] if used else start
            used, tolerance = used + cut(total.used, first=end + 1), max(tolerance, total.tolerance)
        total = ScheduleHistory(used, tolerance, own.plan or (None if own.used else past.plan))
    return total
