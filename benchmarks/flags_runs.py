"""Simulated validations of healthy runs, and of runs with a fault from some step on.

A healthy run follows a law of the training done, the sum of the rates, with a gain of 3 to 12 % for a full
decay of the rate that shows within 20, 100 or 400 of 10,000 steps. `LAWS` are a power law over a floor, one
that breaks, two exponentials over a floor, and a logarithm: the last three are laws that the test does not
assume. What each fault does to the expected curve is said at its function; sizes are drawn evenly from the
ranges there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.signal import lfilter

STEPS = 10_000
SCHEDULES = ("constant", "cosine", "linear", "wsd", "step")
LAWS = ("power", "broken", "exponential", "logarithmic")
NOISES = ("even", "even", "even", "heavy tails", "falling", "rising")


@dataclass(frozen=True)
class Setting:
    """What the runs of a group have in common.

    Attributes:
        n: Validations, evenly spaced.
        schedule: One of `SCHEDULES`.
        law: One of `LAWS`.
        sd: Standard deviation of the noise of ln y.
        rho: Correlation of neighbouring noise.
        noise: One of `NOISES`: Student's t4, or a standard deviation that falls or rises fourfold.
        epochs: Passes over the data: with each the error falls by 1 % times the growth of ln of their number.
        known: Whether the test is told the learning rates.
    """

    n: int
    schedule: str
    law: str
    sd: float
    rho: float
    noise: str = "even"
    epochs: int = 0
    known: bool = True


@dataclass(frozen=True)
class Runs:
    """Runs of one setting.

    Attributes:
        step: Steps of the validations, shape (n,).
        y: The metric there, shape (R, n).
        lr: Planned rate of every step, shape (STEPS,); None where the test is not told.
        onset: Last step without the fault, shape (R,).
    """

    step: np.ndarray
    y: np.ndarray
    lr: np.ndarray | None
    onset: np.ndarray


@dataclass(frozen=True)
class _Expected:
    """What a fault works on.

    Attributes:
        curve: Expected error after so much training, in % of the steps, shape (R, n) to (R, n).
        gain: What a full decay lowers the error by, shape (R, 1).
        gap: Steps in which a change of the rate shows.
        lr: Planned rate of every step, shape (STEPS,).
        step: Shape (n,).
        onset: Shape (R,).
        size: Evenly between 0 and 1, shape (R, 1).
        phase: Likewise.
    """

    curve: Callable[[np.ndarray], np.ndarray]
    gain: np.ndarray
    gap: float
    lr: np.ndarray
    step: np.ndarray
    onset: np.ndarray
    size: np.ndarray
    phase: np.ndarray

    @property
    def since(self) -> np.ndarray:
        """Share of the run since the onset, 0 before, shape (R, n)."""
        return np.maximum(self.step - self.onset[:, None], 0.0) / STEPS

    def log_y(self, true: np.ndarray | None = None, most: float = 1.0, hold: float = 0.0) -> np.ndarray:
        """Log of the expected error under the rates that were used, shape (R, STEPS), planned ones if None.

        Rates above `most` train no faster; `hold` is the share of the fall of ln y that stops at the onset.
        """
        planned = np.broadcast_to(self.lr, (self.onset.size, STEPS))
        true = planned if true is None else true
        summed = np.cumsum(np.minimum(true, most), axis=1) / STEPS * 100.0
        done = summed[:, self.step - 1]
        given = np.maximum.accumulate(planned, axis=1) - true
        shown = lfilter([1.0 / self.gap], [1.0, 1.0 / self.gap - 1.0], given, axis=1)[:, self.step - 1]
        log_y = np.log(self.curve(done))
        if hold:
            at = summed[np.arange(self.onset.size), self.onset.astype(int) - 1][:, None]
            log_y = (1.0 - hold) * log_y + hold * np.log(self.curve(np.minimum(done, at)))
        return log_y + np.log1p(-self.gain * shown)


def _rate(factor: float) -> Callable[[_Expected], np.ndarray]:
    """The rate used is that many times the planned one: annealing is undone by as much, or goes further.

    A rate above the planned largest trains no faster.
    """

    def fault(run: _Expected) -> np.ndarray:
        after = np.arange(1, STEPS + 1) > run.onset[:, None]
        return run.log_y(run.lr * np.where(after, factor, 1.0))

    return fault


def _labels(run: _Expected) -> np.ndarray:
    """Of 10 to 30 % of the labels: the error rises by 3 to 15 %, with a time constant of 2 % of the run."""
    return run.log_y() + (0.03 + 0.12 * run.size) * -np.expm1(-run.since / 0.02)


def _order(run: _Expected) -> np.ndarray:
    """Of the data, sorted: the error swings between 0 and 4 to 12 % above, each 2 to 5 % of the run."""
    wave = 1.0 + np.sin(2 * np.pi * run.since / (0.02 + 0.03 * run.phase))
    return run.log_y() + (0.02 + 0.04 * run.size) * wave * -np.expm1(-run.since / 0.01)


def _optimizer(run: _Expected) -> np.ndarray:
    """The error rises by 5 to 25 % and comes back with a time constant of 2 to 5 % of the run."""
    back = np.exp(-run.since / (0.02 + 0.03 * run.size))
    return run.log_y() + np.where(run.since > 0, (0.05 + 0.2 * run.size) * back, 0.0)


def _decay(run: _Expected) -> np.ndarray:
    """The error rises from the forecast by .1 to .5 % for each 1 % of the run."""
    return run.log_y() + (0.1 + 0.4 * run.size) * run.since


def _frozen(run: _Expected) -> np.ndarray:
    """Four fifths of the fall stop, and the error rises by .5 to 2.5 % at once."""
    jump = (0.005 + 0.02 * run.size) * -np.expm1(-run.since / 0.005)
    return run.log_y(hold=0.8) + jump


def _overfits(run: _Expected) -> np.ndarray:
    """The error rises from the forecast by .5 to 1.5 % for each 1 % of the run."""
    return run.log_y() + (0.5 + run.size) * run.since


FAULTS: dict[str, Callable[[_Expected], np.ndarray]] = {
    "rate x30": _rate(30.0),
    "rate x10": _rate(10.0),
    "rate /10": _rate(0.1),
    "labels corrupted": _labels,
    "data order broken": _order,
    "optimizer state lost": _optimizer,
    "weight decay missing": _decay,
    "layer frozen": _frozen,
    "over-fitting": _overfits,
}


def rates(schedule: str, warmup: int) -> np.ndarray:
    """The rate of every step as a share of the largest, after a linear warm-up; shape (STEPS,)."""
    at = np.arange(1, STEPS + 1) / STEPS
    shape = {
        "constant": np.ones(STEPS),
        "cosine": 0.55 + 0.45 * np.cos(np.pi * at),
        "linear": 1.0 - 0.95 * at,
        "wsd": np.clip((1.0 - at) / 0.2, 0.02, 1.0),
        "step": np.where(at < 0.5, 1.0, np.where(at < 0.75, 0.1, 0.01)),
    }[schedule]
    return shape * np.minimum(1.0, np.arange(1, STEPS + 1) / warmup)


def simulate(
    seed: int,
    runs: int,
    setting: Setting,
    fault: str | None = None,
    alike: bool = False,
    above: float = 0.0,
    sound: int = 0,
) -> Runs:
    """Runs of one setting.

    Args:
        seed: Of everything that is drawn.
        runs: How many.
        setting: What they have in common.
        fault: One of `FAULTS`, which begins between .3 and .8 of the run; None for healthy runs.
        alike: Whether they are runs of one recipe, that differ in ln y as seeds do, by 1 %.
        above: By how much the last of them lies above, in ln y, from the start.
        sound: So many of them, the first ones, have no fault.
    """
    rng = np.random.default_rng(seed)
    step = np.linspace(0, STEPS, setting.n + 1)[1:].round().astype(int)
    lr = rates(setting.schedule, int(rng.choice([100, 300, 500])))

    def draw(low: float, high: float) -> np.ndarray:
        drawn = rng.uniform(low, high, (1 if alike else runs, 1))
        return np.broadcast_to(drawn, (runs, 1)) * (1.0 + 0.01 * alike * rng.normal(size=(runs, 1)))

    alpha, floor, gain = draw(0.2, 0.7), draw(0.3, 0.9), draw(0.03, 0.12)
    curves: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "power": lambda x: floor + (1 - floor) * 2 * (x + 1) ** -alpha,
        "broken": lambda x: floor + (1 - floor) * 2 * (x + 1) ** -0.15 * (1 + (x / 20) ** 2) ** (-alpha / 4),
        "exponential": lambda x: (
            floor + (1 - floor) * (np.exp(-x / 5) + 0.6 * np.exp(-x / (20 + 60 * alpha)))
        ),
        "logarithmic": lambda x: 1 - (1 - floor) * np.log1p(x) / np.log(500.0),
    }
    onset = rng.uniform(0.3, 0.8, runs) * STEPS if fault else np.full(runs, float(STEPS))
    size, phase = rng.uniform(size=(2, runs, 1))
    gap = float(rng.choice([20.0, 100.0, 400.0]))
    run = _Expected(curves[setting.law], gain, gap, lr, step, onset, size, phase)
    log_y = FAULTS[fault](run) if fault else run.log_y()
    log_y[:sound] = run.log_y()[:sound]
    if setting.epochs:
        log_y = log_y - 0.01 * np.log1p(np.floor(step / STEPS * setting.epochs - 1e-9))
    if alike:
        log_y = log_y + 0.01 * rng.normal(size=(runs, 1))
        log_y[-1] += above
    y = np.exp(log_y + setting.sd * _noise(rng, runs, setting))
    return Runs(step, y, lr if setting.known else None, onset)


def _noise(rng: np.random.Generator, runs: int, setting: Setting) -> np.ndarray:
    n = setting.n + 60
    heavy = setting.noise == "heavy tails"
    shocks = rng.standard_t(4, (runs, n)) / np.sqrt(2.0) if heavy else rng.normal(size=(runs, n))
    noise = lfilter([np.sqrt(1 - setting.rho**2)], [1, -setting.rho], shocks, axis=1)[:, 60:]
    along = {"falling": (2.0, 0.5), "rising": (0.5, 2.0)}.get(setting.noise, (1.0, 1.0))
    return noise * np.geomspace(*along, setting.n)


def healthy_settings(seed: int) -> Iterator[Setting]:
    """360 settings: lengths, schedules, laws, correlations, told the rates or not; the rest is drawn."""
    rng = np.random.default_rng(seed)
    for n, schedule, law, rho, known in product(
        (30, 100, 300), SCHEDULES, LAWS, (0.0, 0.4, 0.8), (True, False)
    ):
        sd, noise = float(rng.choice([0.001, 0.003, 0.01, 0.03])), str(rng.choice(NOISES))
        yield Setting(n, schedule, law, sd, rho, noise, int(rng.choice([0, 0, 5])), known)


def faulty_settings(seed: int) -> Iterator[Setting]:
    """40 settings: 50 or 200 validations, schedules and laws; noise of .2 to 1 % is drawn."""
    rng = np.random.default_rng(seed)
    for n, schedule, law in product((50, 200), SCHEDULES, LAWS):
        yield Setting(
            n, schedule, law, float(rng.choice([0.002, 0.005, 0.01])), float(rng.choice([0.0, 0.3, 0.6]))
        )
