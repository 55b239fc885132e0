"""What a run's error does that the errors of earlier runs of its recipe did not do at the same training.

Curves of one recipe collapse onto one, up to a factor that each run keeps (Qiu et al. 2025): the log of a run
over theirs is a level and noise, where the log of the run itself falls by a law that must be learned. Small
changes show in it that no forecast from the run's own past could tell.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from foretrain.flagging.along import Along
from foretrain.flagging.family import GAIN, Curve
from foretrain.laws.law import Array

SAME = 0.05
"""Schedules are the same if annealing differs by no more of the largest rate after as much training."""


class Beside:
    """The log of a run over its earlier runs, validation by validation.

    Args:
        library: Earlier runs, of which those count that have had this run's schedule until now: what another
            schedule has gained by then is not known well enough for small changes.

    Attributes:
        lately: Validations in a row that at least two of those reach.
    """

    def __init__(self, library: Sequence[Curve]) -> None:
        curves = []
        self._alike = np.ones(len(library), dtype=bool)
        for curve in library:
            place = curve.place(curve.steps)
            curves.append((place[:, 0], np.stack([curve.log_y + GAIN * place[:, 1], place[:, 1]])))
        self._curves = Along(curves)
        self._level = np.full(len(library), np.nan)
        self._left = 0.0
        self.lately = 0

    def update(self, log_y: float, place: Array) -> float:
        """Takes the next validation of the run.

        Args:
            log_y: Its log.
            place: ln S and annealing there, shape (2,).

        Returns:
            The median over the earlier runs of ln of this run over them, less what it was with each where
            that run began to count; what it was last where less than two of those reach this far.
        """
        z = float(place[0])
        theirs, annealed = self._curves.at(z)
        reach = self._curves.reach(z)
        self._alike &= ~reach | (np.abs(annealed - place[1]) <= SAME)
        reach &= self._alike
        if reach.sum() < 2:
            self.lately = 0
            return self._left
        self.lately += 1
        apart = log_y + GAIN * place[1] - theirs
        held = reach & ~np.isnan(self._level)
        if held.any():
            left = np.sort((apart - self._level)[held])  # whose median is taken, at a fifth of its cost
            self._left = 0.5 * float(left[left.size // 2] + left[(left.size - 1) // 2])
        new = reach & np.isnan(self._level)
        self._level[new] = apart[new] - self._left
        return self._left
