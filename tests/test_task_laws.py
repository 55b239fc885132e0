"""The labelled-data law of several tasks of one encoder."""

import numpy as np
import pytest
from scipy import stats

from foretrain.downstream import fit_task_laws

DATA = 500 * 2.0 ** np.arange(8)


def measured(exponents, *, noise=0.03, common=0.1, seed=0):
    """Errors of tasks with encoders that are good or bad at all of them."""
    rng = np.random.default_rng(seed)
    exponents = np.asarray(exponents)
    law = np.outer(-exponents, np.log(DATA)) + rng.normal(0, 1, (exponents.size, 1))
    return np.exp(law + rng.normal(0, common, DATA.size) + rng.normal(0, noise, law.shape))


def test_the_exponents_are_those_of_regressions():
    errors = measured([0.2, 0.3, 0.5])
    told = fit_task_laws(DATA, errors, ["spiral", "bar", "merger"])
    for name, one, row in zip(told.tasks, told.exponents, errors, strict=True):
        line = stats.linregress(np.log(DATA), np.log(row))
        half = stats.t.ppf(0.95, 6) * line.stderr
        assert (one.median, one.lower, one.upper) == pytest.approx(
            (-line.slope, -line.slope - half, -line.slope + half)
        ), name
    line = stats.linregress(np.log(DATA), np.log(errors).mean(axis=0))
    assert told.shared.median == pytest.approx(-line.slope)
    assert told.shared.upper - told.shared.median == pytest.approx(stats.t.ppf(0.95, 6) * line.stderr)
    assert told.misfit > told.misfit_own


def test_the_test_is_that_of_nested_regressions_with_an_effect_of_each_encoder():
    errors = measured([0.30, 0.33, 0.36], seed=1)
    tasks, k = errors.shape
    y = np.log(errors).ravel()
    of_task, of_encoder = np.repeat(np.eye(tasks), k, axis=0), np.tile(np.eye(k), (tasks, 1))
    slopes = of_task * np.tile(np.log(DATA), tasks)[:, None]
    rss = []
    for design in (np.hstack([of_task, of_encoder]), np.hstack([of_task, of_encoder, slopes])):
        left = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
        rss.append((left @ left, np.linalg.matrix_rank(design)))
    (one, p_one), (own, p_own) = rss
    f = (one - own) / (p_own - p_one) / (own / (y.size - p_own))
    told = fit_task_laws(DATA[::-1], errors[:, ::-1])
    assert told.p_same == pytest.approx(stats.f.sf(f, p_own - p_one, y.size - p_own), rel=1e-6)
    assert told.tasks == ("0", "1", "2")


def test_one_exponent_is_told_apart_from_several_at_the_rate_that_is_said():
    alarms = sum(not fit_task_laws(DATA, measured([0.3] * 4, seed=s)).is_shared for s in range(1000))
    assert 2 <= alarms <= 22  # 1 %
    assert all(not fit_task_laws(DATA, measured([0.2, 0.3, 0.4], seed=s)).is_shared for s in range(50))
    spreads = [fit_task_laws(DATA, measured([0.2, 0.3, 0.4], seed=s)).spread for s in range(200)]
    assert np.mean(spreads) == pytest.approx(0.1, rel=0.05)
    assert fit_task_laws(DATA, np.outer([1.0, 2.0], DATA**-0.3)).spread == 0


def test_the_shared_exponent_holds_with_the_luck_of_the_encoders():
    held = 0
    for seed in range(300):
        told = fit_task_laws(DATA, measured([0.3] * 4, seed=seed)).shared
        held += told.lower < 0.3 < told.upper
    assert 0.86 < held / 300 < 0.94


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: fit_task_laws([1, 2, 3, 4], [[1] * 4]),
            "at least 2 tasks and 4 amounts of data, got 1 and 4",
        ),
        (lambda: fit_task_laws([1, 2, 3, 3], [[1] * 4] * 2), "got 2 and 3: train encoders on more shards"),
        (lambda: fit_task_laws([1, 2, 3, 4], [1] * 4), r"a column for each of 4 encoders, got shape \(4,\)"),
        (lambda: fit_task_laws([1, 2, 3, 4], [[1] * 3] * 2), r"got shape \(2, 3\)"),
        (lambda: fit_task_laws([1, 2, 3, 4], [[1] * 4] * 2, ["a"]), "Expected 2 names of tasks, got 1"),
        (lambda: fit_task_laws([1, 2, 3, 4], [[0] * 4] * 2), "`errors` to hold positive.* got 0.0"),
    ],
)
def test_what_is_no_panel_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
