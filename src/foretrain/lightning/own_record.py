"""What a session has recorded, kept small in memory, to be written again where its file was deleted."""

from __future__ import annotations

import math
from functools import reduce

from foretrain.observation import Observation, ScheduleUpdate
from foretrain.storage.url_store import Store

MAX_OWN = 1_024
"""Most observations kept, of up to 1e12 steps; past it thinned, evenly in the logarithm of the step."""
_APART = 1.03
_MAX_UPDATES = 64


class OwnRecord:
    """The observations of a session and its schedule, as far as a law needs them."""

    def __init__(self) -> None:
        self._observations: list[Observation] = []
        self._updates: list[ScheduleUpdate] = []

    def keep(self, observation: Observation) -> None:
        """Takes an observation that was given to the store."""
        self._observations.append(observation)
        if len(self._observations) > MAX_OWN:
            self._observations = _thinned(self._observations)

    def tell(self, schedule: ScheduleUpdate | None) -> None:
        """Takes what the store was told of the schedule."""
        if schedule is not None:
            self._updates.append(schedule)
            if len(self._updates) > _MAX_UPDATES:
                self._updates = [self._schedule()]

    def restore(self, store: Store) -> None:
        """Gives everything to a store whose file is gone, but what it still has."""
        if not store.deleted:
            return
        waiting = {id(observation) for observation in store.unsaved}
        missing = [o for o in self._observations if id(o) not in waiting]
        if missing and self._updates:
            store.tell(self._schedule())
        for observation in missing:
            store.append(observation)

    def _schedule(self) -> ScheduleUpdate:
        return reduce(ScheduleUpdate.followed, self._updates)


def _thinned(observations: list[Observation]) -> list[Observation]:
    """The first observation of every three per cent of steps, and the last of all."""
    first: dict[int, Observation] = {}
    for observation in observations:
        first.setdefault(int(math.log(max(1, observation.counts.steps)) / math.log(_APART)), observation)
    return list({id(one): one for one in (*first.values(), observations[-1])}.values())
