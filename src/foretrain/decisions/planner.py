"""Planner: the questions that a family of runs of several sizes is asked, and its answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from foretrain.decisions.allocation import FLOPS_PER_WEIGHT, R_N, JointLaw
from foretrain.decisions.answers import Answer, Choice, NextRun, Optimum, choose, summarize
from foretrain.decisions.contradiction import disagreement, either
from foretrain.decisions.draws import draw_laws
from foretrain.decisions.isoflop import Isoflop, equal_compute
from foretrain.families.family import model_family, model_trade_off
from foretrain.families.model import FamilyModel
from foretrain.families.repeated import R_D, effective_data
from foretrain.inputs import check_levels, positive, same_length
from foretrain.laws.law import Array
from foretrain.projection import LEVELS, Forecast, forecast_family
from foretrain.status import FitStatus

DRAWS = 2000

BLOCKING = (FitStatus.TOO_FEW_SIZES, FitStatus.NOT_DECREASING, FitStatus.TOO_FEW_POINTS)
"""With one of these no decision about size is told."""

SIZE_STEPS = np.array([0.5, 1.0, 2.0, 4.0])
"""Sizes that are looked at for the next run: each known one, and the largest times these."""

DATA_PLACES = 6
"""Amounts of data looked at for each size, from the least of the study to what the compute allows."""


class Planner:
    """Answers about the next run, from runs of several sizes.

    Every answer comes with intervals, from draws of the joint law that the runs leave open, and says when the
    points cannot tell and which run would tell most.

    Args:
        n: Model size of each point, shape (m,), in parameters. Points of one size are not independent.
        d: Data seen at each, shape (m,), in training examples or tokens.
        y: The metric there, shape (m,), in its own unit; one that falls.
        per: FLOPs for each parameter and unit of data: `C = per N D`. 6 where the unit is a token.
        levels: Nominal levels of the intervals.
        seed: Of the draws.

    Attributes:
        law: Draws for statements about one place, in which the points next to it count most.
        trade_off: Draws of the joint law for what size gains over data, in which all points count alike.
        reasons: What is in doubt about the family, the gravest first.

    Raises:
        ValueError: If an array holds a number that is not positive and finite, or the lengths differ.

    Example:
        >>> law = JointLaw(1.8, 480.0, 0.35, 2100.0, 0.37)
        >>> n, d = np.repeat([1e7, 3e7, 1e8, 3e8], 3), np.tile([1e9, 3e9, 1e10], 4)
        >>> planner = Planner(n, d, law.loss(n, d))
        >>> planner.more_data_or_bigger_model(3e8, 1e9).verdict
        'more data'
    """

    def __init__(
        self,
        n: ArrayLike,
        d: ArrayLike,
        y: ArrayLike,
        *,
        per: float = FLOPS_PER_WEIGHT,
        levels: Sequence[float] = LEVELS,
        seed: int = 0,
    ) -> None:
        self._n, self._d, self._y = positive("n", n), positive("d", d), positive("y", y)
        same_length(n=self._n, d=self._d, y=self._y)
        positive("per", [per])
        self._per, self._levels = float(per), check_levels(levels)
        self._model: FamilyModel = model_family(self._n, self._d, self._y)
        self.law: JointLaw = draw_laws(self._model, DRAWS, seed)
        whole = model_trade_off(self._n, self._d, self._y, self._model)
        self.trade_off: JointLaw = draw_laws(whole, DRAWS, seed)
        self.reasons = self._model.reasons
        self._seed = seed

    @cached_property
    def contrary(self) -> str:
        """That equal compute contradicts the joint law, as a sentence (`disagreement`); empty where not."""
        return disagreement(self.trade_off, self._equal_compute, self._per)

    @cached_property
    def advice(self) -> JointLaw:
        """Draws that the answers of size against data come from.

        These are `trade_off`, but where equal compute contradicts it: then draws that leave open which of the
        two is right (`foretrain.decisions.contradiction.either`).
        """
        if not self.contrary:
            return self.trade_off
        return either(self.trade_off, self._equal_compute, self._per, self._seed)

    @cached_property
    def _equal_compute(self) -> Isoflop:
        return equal_compute(self._n, self._d, self._y, self._per)

    @property
    def blocking(self) -> tuple[FitStatus, ...]:
        """Why no decision about size is told; empty where the points identify a law of size."""
        return tuple(reason for reason in self.reasons if reason in BLOCKING)

    def final_loss(self, n: ArrayLike, d: ArrayLike) -> Forecast:
        """The error of planned runs of size n on data d: `foretrain.forecast_joint`."""
        return forecast_family(self._n, self._d, self._y, n, d, self._levels, self._model)

    def as_answer(self, question: str, forecast: Forecast) -> Answer:
        """A forecast of one place as the answer to a question, in the metric's unit."""
        lower, upper = (
            {level: float(np.squeeze(v)) for level, v in ends.items()}
            for ends in (forecast.lower, forecast.upper)
        )
        told, reasons = not self.blocking, forecast.reasons
        answer = Answer(question, float(np.squeeze(forecast.median)), lower, upper, "", told, reasons)
        return answer if told else replace(answer, next_run=self.next_run())

    def data_needed(self, target: float, n: float) -> Answer:
        """The data with which a model of size n reaches a target error."""
        positive("target", [target]), positive("n", [n])
        question = f"Data for {target:.4g} with {n:.3g} parameters"
        aim = self._d.max()
        return self._answer(question, self.law.data_for(target, n), "of data", lambda law: law.loss(n, aim))

    def size_needed(self, target: float, d: float) -> Answer:
        """The model size that reaches a target error on data d."""
        positive("target", [target]), positive("d", [d])
        question = f"Size for {target:.4g} on {d:.3g} of data"
        aim = self._n.max()
        return self._answer(
            question, self.law.size_for(target, d), "parameters", lambda law: law.loss(aim, d)
        )

    def compute_needed(self, target: float) -> Answer:
        """The least compute for a target error, at the best size for it."""
        positive("target", [target])
        draws = self.advice.compute_for(target, self._per)
        return self._answer(f"Compute for {target:.4g}", draws, "FLOPs")

    def optimum(
        self, compute: float, unique: float | None = None, r: float = R_D, r_n: float = R_N
    ) -> Optimum:
        """The compute-optimal size, data and error for a budget.

        Args:
            compute: The budget, in FLOPs.
            unique: Distinct data that there are; data beyond it repeat and count less and less, as do
                parameters beyond what they suffice for (`JointLaw.worth`). Unlimited if None.
            r: Repeats after which their value has decayed by e.
            r_n: The same for excess parameters.

        Returns:
            The size, the data seen that the rest of the budget then allows, and the error there.
        """
        positive("compute", [compute])

        def sizes(law: JointLaw) -> Array:
            if unique is None:
                return law.optimum(compute, self._per)[0]
            return law.optimum_of_repeats(compute, unique, self._per, r, r_n)[0]

        draws = sizes(self.advice)
        told = f"for {compute:.3g} FLOPs"
        size = self._answer(f"Best size {told}", draws, "parameters", sizes)
        data = self._answer(f"Best data {told}", compute / self._per / draws, "of data", sizes)
        seen = compute / self._per / size.median
        # For the error excess parameters count fully: their discount tells sizes apart, but the size that
        # distinct data suffice for is too uncertain for what it says of the error (docs/decisions.md).
        worth = seen if unique is None else float(effective_data(seen, unique, r))
        return Optimum(
            size=size,
            # What goes with the size advised, not the median of the draws.
            data=replace(data, median=seen),
            loss=self.final_loss(size.median, worth),
        )

    def more_data_or_bigger_model(self, n: float, d: float) -> Choice:
        """Whether the next unit of compute gains more by data or by size, after a run of size n on data d."""
        positive("n", [n]), positive("d", [d])

        def ratio(law: JointLaw) -> Array:
            by_size, by_data = law.gains(n, d)
            return np.asarray(by_data / by_size)

        found = ratio(self.advice)
        answer = summarize(
            f"More data or a bigger model at {n:.3g} parameters and {d:.3g} of data",
            found,
            self._levels,
            "times the gain of a bigger model, by more data",
            reasons=self.reasons,
            blocked=bool(self.blocking),
            wide=np.inf,
        )
        telling = self._most_telling(self.advice, np.log(found), None)
        return choose(answer, ("more data", "a bigger model"), found, telling, blocked=bool(self.blocking))

    def next_run(
        self,
        *,
        compute: float | None = None,
        goal: tuple[float, float] | None = None,
    ) -> NextRun:
        """The run that would make the forecast of a planned one most certain.

        Args:
            compute: The most that the next run may cost, in FLOPs; the cost of the largest run if None.
            goal: Size and data of the planned run; 4 times the largest size and data if None.

        Returns:
            The best of a grid of sizes and data, and by how much it would narrow the interval.
        """
        n, d = (4 * self._n.max(), 4 * self._d.max()) if goal is None else goal
        positive("goal", [n, d])
        return self._most_telling(self.law, np.log(self.law.loss(n, d)), compute)

    def _answer(
        self, question: str, draws: Array, unit: str, aim: Callable[[JointLaw], Array] | None = None
    ) -> Answer:
        blocked = bool(self.blocking)
        answer = summarize(question, draws, self._levels, unit, reasons=self.reasons, blocked=blocked)
        if answer.told:
            return answer
        if aim is None:
            return replace(answer, next_run=self.next_run())
        return replace(answer, next_run=self._most_telling(self.advice, np.log(aim(self.advice)), None))

    def _most_telling(self, law: JointLaw, aim: Array, compute: float | None) -> NextRun:
        """The run whose outcome, over the draws of a law, goes most with `aim`, shape (draws,)."""
        most = float((self._n * self._d).max()) * self._per if compute is None else compute
        positive("compute", [most])
        known = np.unique(self._n)
        sizes = np.unique(np.append(known, self._n.max() * SIZE_STEPS))
        if FitStatus.TOO_FEW_SIZES in self.reasons:  # another run of a known size tells no law of size
            between = np.sqrt(known[:-1] * known[1:])
            sizes = np.setdiff1d(np.concatenate([sizes, known[:1] / 4, between]), known)
        n, d = [], []
        for size in sizes:
            reach = most / self._per / size
            low = min(self._d.min(), reach)
            n += [size] * DATA_PLACES
            d += list(np.geomspace(low, reach, DATA_PLACES))
        places = np.array([n, d])
        outcome = np.log(law.loss(places[0][:, None], places[1][:, None]))
        aim = aim - aim.mean()
        outcome = outcome - outcome.mean(axis=1, keepdims=True)
        noise = (self._model.inflation * self._model.noise) ** 2
        explained = (outcome @ aim / aim.size) ** 2 / ((outcome**2).mean(axis=1) + noise)
        best = int(np.argmax(explained))
        left = 1.0 - explained[best] / max(float((aim**2).mean()), 1e-300)
        size, data = (float(v) for v in places[:, best])
        return NextRun(size, data, self._per * size * data, float(np.sqrt(np.clip(left, 0.0, 1.0))))


def compute_multiplier(
    ours: Planner, theirs: Planner, compute: float, names: tuple[str, str] = ("the first", "the second")
) -> Choice:
    """Whether one recipe is better than another, as the compute that the other needs for the same error.

    Args:
        ours: Runs of the one recipe.
        theirs: Runs of the other, on the same metric.
        compute: The budget at which they are compared, in FLOPs.
        names: Of the two.

    Returns:
        The choice; `answer` is the compute of the second over that of the first, at the first one's error.
    """
    positive("compute", [compute])
    loss = ours.advice.best_loss(compute, ours._per)
    # Two planners of one seed draw alike; what is not known of the one recipe has no part in the other's.
    loss = np.random.default_rng(ours._seed).permutation(loss)
    ratio = theirs.advice.compute_for(loss, theirs._per) / compute
    blocked = bool(ours.blocking or theirs.blocking)
    answer = summarize(
        f"{names[0]} or {names[1]} at {compute:.3g} FLOPs",
        ratio,
        ours._levels,
        "times the compute",
        reasons=(*ours.reasons, *theirs.reasons),
        blocked=blocked,
        wide=np.inf,
    )
    # Where one recipe's floor forbids the error, its compute is taken as the largest that occurred.
    most = np.max(ratio, where=np.isfinite(ratio), initial=1.0)
    telling = theirs._most_telling(theirs.advice, np.log(np.minimum(ratio, most)), None)
    return choose(answer, names, ratio, telling, blocked=blocked)
