"""Collapse of learning curves."""

from __future__ import annotations

import numpy as np
import pytest

from foretrain.runs.curve import RunCurve
from foretrain.runs.model import model_run
from foretrain.runs.templates import left_out, make_template, same_shape
from test_annealing import cosine


def collapsed(length: int, height: float, *, floor: float = 2.0, until: float = 1.0, noise: float = 0.0):
    """A run that follows one curve over its own length: neither a power law nor smooth at the end."""
    lr = cosine(length)
    steps = np.linspace(0.02 * length, length, 46).astype(int)
    done = np.cumsum(lr / lr.max())
    x = done[steps - 1] / done[-1]
    shape = 0.6 * x**-0.4 + 0.4 + 0.5 * np.exp(-(((x - 0.35) / 0.1) ** 2))
    y = (floor + height * shape) * np.exp(noise * np.random.default_rng(length).normal(size=x.size))
    return RunCurve.of(steps[x <= until], y[x <= until], lr)


def test_curves_that_collapse_are_read_off_each_other_exactly():
    library = [collapsed(length, height) for length, height in ((4000, 0.8), (9000, 0.5), (20_000, 0.9))]
    template = make_template(library)
    assert template.floor == pytest.approx(2.0, rel=0.2)
    young = collapsed(12_000, 0.7, until=0.3)
    aligned = template.aligned(young)
    end = np.exp(aligned.log_at(np.array([1.0, 0.5])))
    whole = collapsed(12_000, 0.7)
    there = np.interp(0.5, whole.done / whole.end, np.exp(whole.log_y))
    assert end == pytest.approx([np.exp(whole.log_y[-1]), there], rel=0.01)
    assert np.abs(left_out(young, library)).max() < 0.02


def test_only_schedules_of_one_shape_are_compared():
    run = collapsed(4000, 0.8, until=0.5)
    constant = RunCurve.of(np.array([100, 4000]), np.array([4.0, 3.0]), np.full(4000, 1.0))
    longer = collapsed(50_000, 0.5)
    assert same_shape(run, [constant, longer, run]) == [1, 2]


def test_a_run_below_the_floor_has_no_template():
    template = make_template([collapsed(4000, 0.8), collapsed(9000, 0.5)])
    assert template.aligned(collapsed(4000, 0.05, floor=0.2, until=0.5)) is None


def test_the_template_counts_where_it_forecasts_better_than_the_law_and_not_elsewhere():
    lengths = (4000, 9000, 20_000, 30_000)
    bumpy = [
        collapsed(length, h, noise=1e-3) for length, h in zip(lengths, (0.8, 0.5, 0.9, 0.7), strict=True)
    ]
    run = collapsed(12_000, 0.6, until=0.35, noise=1e-3)
    model = model_run(run, bumpy)
    assert model.template_share > 0.8
    truth = collapsed(12_000, 0.6).log_y[-1]
    (told,), (deviation,) = model.log_moments(np.array([12_000]))
    assert abs(told - truth) < 0.02 and abs(told - truth) < 2.5 * deviation
    stretched = model.log_moments(np.array([12_000]), run.path)  # another plan: the law alone
    assert stretched[0][0] != told
    assert model_run(run, bumpy[:2]).template is None


def test_runs_that_follow_the_law_and_no_common_curve_leave_the_template_out():
    def powered(length, theta_height):
        lr = np.full(length, 1e-3)
        steps = np.linspace(0.02 * length, length, 46).astype(int)
        return RunCurve.of(steps, 2.0 + theta_height * (steps / 4000) ** -0.5, lr)

    library = [powered(length, 1.0) for length in (4000, 12_000, 40_000, 120_000)]
    young = powered(24_000, 1.0).until(8000)
    assert model_run(young, library).template_share < 0.1
