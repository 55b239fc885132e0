"""Simulated studies of ordinary runs through their schedules, for `borrowing.py`.

A study has four to six sizes a factor of 2 to 4 apart, each trained once to its planned end, on about 10, 20
or 40 units of data for each parameter; then one more run of another size: 2 or 4 times the largest, or
between the two largest. The error surface is that of `decisions.py`, which is no Chinchilla law. Along a run
it is followed in the training done, the sum of the learning rates; lowering the rate gains a share of the
error (.06 in the median) with a memory of its own, as Tissue et al. 2024 have it: no law that foretrain
fits. Each run has a seed effect, and autocorrelated noise along it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.signal import lfilter

from decisions import SMALLEST, draw_truth
from foretrain.axes import Counts
from foretrain.laws.law import Array
from foretrain.observation import Observation, RunInfo, RunRecord
from foretrain.schedule import Schedule

METRIC = "val_loss"
NEW = ("between two", "2x the largest", "4x the largest")
POINTS = 50
"""Validations of a run, evenly spaced."""
MOST_STEPS, FEWEST_STEPS = 12_000, 400
"""Steps of the longest run, and of the shortest: between them the batch grows with the data."""
WARMUP, LOWEST = 0.02, 0.1


@dataclass(frozen=True)
class Trained:
    """A study's finished runs, and one more that is asked about.

    Attributes:
        runs: The finished runs by name.
        new: The other run, complete.
        place: How its size lies to the others, one of `NEW`.
        schedule: "cosine", "wsd" or "constant".
    """

    runs: dict[str, RunRecord]
    new: RunRecord
    place: str
    schedule: str

    def young(self, share: float) -> RunRecord:
        """The new run when it had taken so much of its steps."""
        info, end = self.new.info, self.new.observations[-1].counts.steps
        seen = tuple(o for o in self.new.observations if o.counts.steps <= share * end + 0.5)
        return RunRecord(
            info,
            seen,
            "running",
            self.new.schedule,
            seen[-1].counts.steps if seen else 0,
            self.new.schedule_unknown,
        )


def rates(kind: str, steps: int) -> Array:
    """The rate of every step as a share of the largest, shape (steps,)."""
    s = np.arange(1, steps + 1)
    warm = max(int(WARMUP * steps), 1)
    after = np.maximum(s - warm, 0) / max(steps - warm, 1)
    if kind == "cosine":
        down = LOWEST + (1 - LOWEST) / 2 * (1 + np.cos(np.pi * after))
    elif kind == "wsd":
        down = 1 - (1 - LOWEST) * np.clip((after - 0.8) / 0.2, 0, 1)
    else:
        down = np.ones(steps)
    return np.asarray(np.minimum(1.0, s / warm) * down)


def draw(rng: np.random.Generator, *, bad: float = 0.0, longer: float = 1.0) -> Trained:
    """A study, and a new run of it.

    Args:
        rng: Source of all that is drawn.
        bad: By how much the log error of the new run is raised, as a bad recipe raises it.
        longer: Its data over what such a run usually has.
    """
    truth = draw_truth(rng)
    count, step = int(rng.integers(4, 7)), float(rng.choice([2.0, np.sqrt(8.0), 4.0]))
    sizes = SMALLEST * step ** np.arange(count)
    place = str(rng.choice(NEW))
    if place == NEW[0]:
        new = float(np.exp(np.log(sizes[-2] * sizes[-1]) / 2))
    else:
        new = float(sizes[-1] * (2 if place == NEW[1] else 4))
    every = np.append(sizes, new)
    data = every * rng.choice([10.0, 20.0, 40.0]) * np.exp(rng.normal(0, 0.2, every.size))
    data[-1] *= longer
    kind = str(rng.choice(["cosine", "wsd", "constant"], p=[0.5, 0.25, 0.25]))
    run_noise, point_noise, related = (
        rng.uniform(0.002, 0.008),
        rng.uniform(0.002, 0.006),
        rng.uniform(0, 0.9),
    )
    gain, memory = float(np.exp(rng.normal(np.log(0.06), 0.25))), float(np.exp(rng.normal(np.log(0.03), 0.7)))
    grows = rng.normal(0, 0.05)
    wide = float(data.max() / data.min())
    power = min(1.0, np.log(MOST_STEPS / FEWEST_STEPS) / np.log(wide))
    records = []
    for index, (n, d) in enumerate(zip(every, data, strict=True)):
        steps = round(MOST_STEPS * (d / data.max()) ** power)
        u = rates(kind, steps)
        at = np.unique(np.maximum(np.round(steps * np.arange(1, POINTS + 1) / POINTS), 1)).astype(int)
        after = np.where(np.arange(steps) < np.argmax(u), 1.0, u)
        slow = lfilter([memory], [1, memory - 1], after, zi=[1 - memory])[0]
        each = d / steps
        level = truth(np.full(at.size, n), each * np.cumsum(u)[at - 1])
        level *= 1 - gain * (n / SMALLEST) ** grows * (1 - slow[at - 1])
        level *= np.exp(bad if index == every.size - 1 else 0.0)
        noise = rng.normal(0, 1, at.size)
        for i in range(1, at.size):
            noise[i] = related * noise[i - 1] + np.sqrt(1 - related**2) * noise[i]
        y = level * np.exp(run_noise * rng.normal() + point_noise * noise)
        name = "new" if index == every.size - 1 else f"n{index}"
        counts = [
            Counts(samples=round(s * each), tokens=round(s * each), steps=int(s), params=round(n)) for s in at
        ]
        records.append(
            RunRecord(
                RunInfo(name, planned=counts[-1], started=float(index)),
                tuple(
                    Observation(name, METRIC, float(v), c, lr=float(1e-3 * u[c.steps - 1]))
                    for v, c in zip(y, counts, strict=True)
                ),
                "finished",
                Schedule.from_rates(1e-3 * u),
                steps,
                None,
            )
        )
    return Trained({r.info.run: r for r in records[:-1]}, records[-1], place, kind)
