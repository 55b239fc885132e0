"""`flag_run`: one run's validations replayed in order, and the flags they raise."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from foretrain.flagging.beside import Beside
from foretrain.flagging.family import Curve, Family, off_trend, same_size
from foretrain.flagging.given import given_library, given_run
from foretrain.flagging.origins import LEVELS, RECENT
from foretrain.flagging.sizes import Sizes, usable
from foretrain.flagging.watch import EASE, JUDGED_FROM, Deviations, Test, Watch, limit
from foretrain.flagging.words import Window, above_family, above_sizes, left_family, not_finite, told
from foretrain.flags import Flag, FlagKind
from foretrain.laws.law import Array
from foretrain.runs.annealing import RatePath

MEMORIES = (0.1, 0.003)
"""A quick and a slow response to the rate, see `foretrain.runs.annealing.MEMORIES`."""

LONGEST = 2**LEVELS
"""Validations in a window at most."""

FAMILY_SHARE, BESIDE_SHARE, OWN_SHARE = 0.3, 0.35, 0.35
"""Of the false alarms, what is spent on the level of a run beside earlier ones, on changes beside them, and
on changes against its own past, where there are earlier runs; else all is spent on the last. The law of other
sizes has what is spent on changes where no earlier run is of this size, else half of what is on the level."""

ORDER = [Test.RISE, Test.CHANGE, Test.BELOW, Test.ABOVE, Test.SPIKE]
"""Of several tests that are passed at once the first is told: what lasts before what may not."""

BESIDE_ORDER = [Test.RISE, Test.CHANGE, Test.ABOVE, Test.FALL, Test.BELOW]
"""The same, of a run beside earlier ones."""

OWN = np.array([True, False])
"""The first of two curves that are watched is the run's own, the second what it has beside earlier runs."""

SPIKES_APART = 10
"""Validations after a spike before another one is told."""


def flag_run(
    step: ArrayLike,
    y: ArrayLike,
    lr: ArrayLike | None = None,
    library: Sequence[Mapping[str, Any]] = (),
    false_alarm_rate: float = 0.01,
    *,
    n_params: float | None = None,
) -> tuple[Flag, ...]:
    """Replays one run's validations in order and returns the flags that they raise.

    Every validation is compared with forecasts made before it, from the run's own earlier validations and its
    learning-rate schedule, and with earlier runs of its recipe, where there are any. A flag at a step depends
    on the validations up to there alone. A kind is told once; a spike again after ten validations, a metric
    that is not finite again after one that is. `docs/flags.md` says what each kind means and how often
    healthy runs raise it.

    Args:
        step: Optimizer steps at which y was measured, shape (n,), whole numbers from 1 on.
        y: The metric there, shape (n,), in its own unit; an error or a loss. Positive, or not finite.
        lr: Learning rate of every step from 1 to the planned end, shape (T,). None negative, one positive.
            Without it a falling error is no surprise, for a decay of the rate may be why.
        library: Earlier runs of the recipe, each a mapping with `step`, `y` and, if `lr` is given, `lr`, and
            optionally `n_params`.
        false_alarm_rate: Share of healthy runs that raise any flag, between 0 and 1.
        n_params: The run's model size, where those of earlier runs are given. From three other sizes on their
            joint law says where this one should lie. Then all runs take as much data in a step.

    Returns:
        The flags in the order in which they were raised, each with `kind`, `step`, `severity`, `message` and
        `evidence`.

    Raises:
        ValueError: If a step is no whole number from 1 to T, a y is zero or negative, step and y differ in
            length, the rates are no rates, a size is not positive, an earlier run lacks what it needs, or the
            rate of false alarms is not between 0 and 1.

    Example:
        >>> import numpy as np
        >>> from foretrain import flag_run
        >>> step = np.arange(100, 10001, 100)
        >>> y = 2 + 9 * step**-0.3 + 0.01 * np.random.default_rng(0).normal(size=100)
        >>> flag_run(step, y)
        ()
        >>> y[60:] *= 1.05
        >>> [(flag.kind.value, flag.step) for flag in flag_run(step, y)]
        [('spike', 6100), ('divergence', 6200)]
    """
    if not (isinstance(false_alarm_rate, int | float) and 0 < false_alarm_rate < 1):
        raise ValueError(
            f"Expected `false_alarm_rate` to be a number between 0 and 1, such as 0.01, got "
            f"{false_alarm_rate!r}."
        )
    run, finite, values = given_run("", step, y, lr, n_params)
    earlier = given_library(library, with_rates=lr is not None)
    replay = Replay(run, earlier, float(false_alarm_rate), earlier)
    places = places_of(run)
    found: list[Flag] = []
    for k, at in enumerate(run.steps):
        if finite[k]:
            found += replay.update(int(at), float(values[k]), places[k])
        else:
            found += replay.not_finite(int(at), float(values[k]))
    return tuple(found)


class Replay:
    """The tests of one run, which takes its validations as they come, each at the same cost.

    Args:
        run: The run, of whose validations none count yet.
        library: Earlier runs of the recipe.
        false_alarm_rate: Share of healthy runs that raise any flag.
        sizes: Earlier runs of the recipe from which the law of sizes is made, where there are enough of them.
    """

    def __init__(
        self,
        run: Curve,
        library: Sequence[Curve],
        false_alarm_rate: float,
        sizes: Sequence[Curve] = (),
    ) -> None:
        self._path, self._rate = run.path, false_alarm_rate
        alike = [curve for curve in library if same_size(run.params, curve.params)]
        self._beside, self._alike = Beside(alike) if len(alike) > 1 else None, len(alike)
        law = usable(sizes, run)
        share = FAMILY_SHARE * (0.5 if law and self._beside else 1.0)
        self._family = Family(library, share * false_alarm_rate, run.params) if len(library) > 1 else None
        share = share if self._beside else BESIDE_SHARE
        self._sizes = Sizes(law, run, share * false_alarm_rate) if law else None
        self._own_rate = false_alarm_rate * (OWN_SHARE if self._family or self._sizes else 1.0)
        peaks = [curve.peak for curve in library if curve.peak is not None]
        ratio = run.peak / float(np.median(peaks)) if run.peak is not None and peaks else None
        self._ratio = off_trend(library, run, "peak") or ratio
        both = np.array([False, True])[: 2 if self._beside else 1]
        self._watch = Watch(np.full(both.size, run.path is not None), both)
        self._recent: deque[tuple[int, float]] = deque(maxlen=LONGEST + RECENT + 1)
        self._told: set[FlagKind] = set()
        self._finite, self._spike, self._above = True, -SPIKES_APART, 0

    def follow(self, path: RatePath) -> None:
        """Takes a path that is the same up to the last validation, and known for longer."""
        self._path = path

    def not_finite(self, step: int, value: float) -> list[Flag]:
        """Takes a validation that is NaN or infinite; see `update`."""
        first, self._finite = self._finite, False
        return [not_finite(step, value)] if first else []

    def update(self, step: int, value: float, place: Array) -> list[Flag]:
        """Takes the next validation.

        Args:
            step: Its optimizer step.
            value: The metric. Positive and finite.
            place: ln S, both annealings of `MEMORIES` and that of `family.MEMORY` there, shape (4,).

        Returns:
            The flags that it raises.
        """
        self._finite = True
        if self._path is not None and step < self._path.warmup_end:
            return []
        log_y = float(np.log(value))
        self._recent.append((step, log_y))
        left = [] if self._beside is None else [self._beside.update(log_y, place[[0, 3]])]
        off = self._watch.update(np.array([log_y, *left]), np.repeat(place[None, :3], 1 + len(left), axis=0))
        found = self._against_family(step, value, log_y, place[[0, 3]])
        if off is None:
            return found
        found += self._changed_beside(value, off)
        bound = limit(self._watch.count, self._own_rate)
        passed = [test for test in ORDER if off.score[0, test] > bound]
        for test in passed[:1]:
            flag = told(test, self._window(test, off, bound), self._rate)
            if flag.kind is FlagKind.SPIKE:
                fresh = self._watch.count - self._spike >= SPIKES_APART
                self._spike = self._watch.count
            else:
                fresh = flag.kind not in self._told
                # After a spike the forecasts made before it go on being compared with what comes.
                self._watch.accept(OWN[: 2 if self._beside else 1])
            self._told.add(flag.kind)
            found += [flag] if fresh else []
        return found

    def _window(self, test: Test, off: Deviations, bound: float, row: int = 0) -> Window:
        age = int(off.age[row, test])
        steps, logs = zip(*self._recent, strict=True)
        before = logs[-age - RECENT : -age]
        return Window(
            step=steps[-1],
            since=steps[-age - 1],
            log_y=np.array(logs[-age:]),
            base=float(np.mean(before)),
            apart=float(off.apart[row, test]),
            score=float(off.score[row, test]) * float(EASE[test]),
            limit=bound * float(EASE[test]),
            rates=self._risen(steps[-age - 1], steps[-1]),
        )

    def _risen(self, since: int, now: int) -> float | None:
        """Largest rate of the steps since a forecast, over that of the step at which it was made."""
        if self._path is None or now <= since:
            return None
        before = float(self._path.rates[since - 1])
        return float(self._path.rates[since:now].max()) / before if before > 0 else None

    def _changed_beside(self, value: float, off: Deviations) -> list[Flag]:
        if self._beside is None or self._beside.lately <= JUDGED_FROM:
            return []
        bound = limit(self._watch.count, BESIDE_SHARE * self._rate)
        passed = [test for test in BESIDE_ORDER if off.score[1, test] > bound]
        if not passed:
            return []
        self._watch.accept(~OWN)
        kind = FlagKind.UNEXPECTEDLY_GOOD if passed[0] in (Test.FALL, Test.BELOW) else FlagKind.ABOVE_FAMILY
        if kind in self._told:
            return []
        self._told.add(kind)
        window = self._window(passed[0], off, bound, row=1)
        return [left_family(kind, value, window, self._alike, self._rate)]

    def _against_family(self, step: int, value: float, log_y: float, place: Array) -> list[Flag]:
        found: list[Flag] = []
        if self._sizes is not None:
            by_law = self._sizes.update(log_y, place)
            if by_law is not None and by_law.flagged:
                found = [above_sizes(step, value, by_law, self._sizes.told, self._rate)]
        if self._family is not None:
            off = self._family.update(log_y, place)
            # Two in a row, so that no single validation is told to be the run.
            self._above = self._above + 1 if off is not None and off.score > 1.0 else 0
            if off is not None and self._above > 1:
                found = found or [above_family(step, value, off, self._ratio)]
        fresh = [flag for flag in found if flag.kind not in self._told]
        self._told |= {flag.kind for flag in fresh}
        return fresh


def places_of(run: Curve) -> Array:
    """Log of S, annealing under `MEMORIES` and under `family.MEMORY`, of each validation, shape (n, 4)."""
    place = run.place(run.steps)
    if run.path is None:
        own = np.zeros((len(place), 2))
    else:
        own = np.stack([run.path.annealed(run.steps, memory) for memory in MEMORIES], axis=1)
    return np.concatenate([place[:, :1], own, place[:, 1:]], axis=1)
