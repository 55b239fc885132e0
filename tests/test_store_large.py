"""Attempts with more observations than are kept, and studies with more runs than are looked at."""

import itertools
import math

import numpy as np
import pytest

from foretrain.axes import Counts
from foretrain.observation import Observation, RunInfo
from foretrain.storage import attempts as attempts_module
from foretrain.storage.attempts import Attempt
from foretrain.store import ObservationStore, StudyReader


def observation(step, run="run"):
    return Observation(run, "val_loss", 1.0 + 1.0 / (1 + step), Counts(samples=32 * step, steps=step))


def attempt_of(steps):
    attempt = Attempt(RunInfo("run"))
    for step in steps:
        attempt.add(observation(step))
    return attempt


@pytest.fixture
def few_kept(monkeypatch):
    monkeypatch.setattr(attempts_module, "MAX_POINTS", 1024)
    monkeypatch.setattr(attempts_module, "_NEWEST", 64)
    return 1024


@pytest.mark.parametrize(
    "steps",
    [
        range(20_001),
        range(100_000, 115_000),
        np.unique(np.geomspace(1, 1e12, 8_000).astype(int)).tolist(),
    ],
    ids=["from the start", "resumed late", "evenly in the logarithm"],
)
def test_what_is_kept_of_many_observations_is_even_in_the_logarithm_of_the_step(steps, few_kept):
    attempt = attempt_of(steps)
    kept = sorted(attempt.points["val_loss"])
    assert few_kept // 4 <= len(kept) <= few_kept
    assert kept[0] == steps[0] and kept[-1] == steps[-1]
    assert kept[-64:] == list(steps[-64:]), "the newest are all there"
    # No gap is wider than even spacing of a quarter of the most, twice, beside what was not measured.
    even = (math.log1p(steps[-1]) - math.log1p(steps[0])) / (few_kept // 4)
    apart = dict(itertools.pairwise(steps))
    for one, other in itertools.pairwise(kept):
        assert math.log1p(other) - math.log1p(one) <= 2 * even + math.log1p(apart[one]) - math.log1p(one)


def test_the_first_of_a_stretch_is_never_worn_away(monkeypatch):
    monkeypatch.setattr(attempts_module, "MAX_POINTS", 100)
    monkeypatch.setattr(attempts_module, "_NEWEST", 10)
    attempt, before = Attempt(RunInfo("run")), set()
    for step in range(5_000):
        attempt.add(observation(step))
        kept = set(attempt.points["val_loss"])
        assert len(kept) <= 100 and kept <= before | {step}
        before = kept
    copied = attempt.copy()
    for step in range(5_000, 10_000):
        attempt.add(observation(step))
        copied.add(observation(step))
    assert attempt == copied


def test_steps_beyond_any_training_are_bounded_too(few_kept):
    kept = sorted(attempt_of(int(1.1**k) for k in range(1, 7_300)).points["val_loss"])
    assert len(kept) <= few_kept and kept[-1] > 1e300


def test_what_is_kept_does_not_depend_on_when_it_was_read(tmp_path, monkeypatch):
    monkeypatch.setattr(attempts_module, "MAX_POINTS", 100)
    monkeypatch.setattr(attempts_module, "_NEWEST", 10)
    store = ObservationStore(tmp_path)
    store.begin(RunInfo("run"))
    grown = StudyReader(store.study_dir)
    for step in range(1, 1001):
        store.append(observation(step))
        if step % 37 == 0:
            grown.read()
    got = [o.counts.steps for o in StudyReader(store.study_dir).read().runs["run"].observations]
    assert got[0] == 1 and got[-10:] == list(range(991, 1001)) and len(got) <= 100
    assert grown.read() == StudyReader(store.study_dir).read()
