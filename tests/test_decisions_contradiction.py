"""Where equal compute contradicts the joint law: found, told, and both readings inside the intervals."""

import numpy as np
import pytest

from foretrain.decisions import JointLaw, Planner, disagreement, isoflop, isoflop_optima
from foretrain.decisions.contradiction import either

LAW = JointLaw(e=1.8172, a=477.83, alpha=0.34731, b=2143.4, beta=0.36717)  # Besiroglu et al. 2024
SIZES, DATA = np.geomspace(1e5, 1e9, 17), np.geomspace(1e8, 1e10, 20)


def runs(surface, seed, noise=0.002):
    """One curve for each size, each better or worse as a whole."""
    n, d = (v.ravel() for v in np.meshgrid(SIZES, DATA, indexing="ij"))
    rng = np.random.default_rng(seed)
    return n, d, surface(n, d) * np.exp(noise * np.repeat(rng.normal(size=SIZES.size), DATA.size))


def best_size(compute):
    return 3e7 * (compute / 1e17) ** 0.85


def steep(n, d):
    """At each budget the error rises from its least, at `best_size`, like a parabola in ln N."""
    compute = 6 * n * d
    return 1.5 + 100 * compute**-0.1 * (1 + 0.05 * np.log(n / best_size(compute)) ** 2)


@pytest.mark.parametrize("seed", range(6))
def test_runs_of_the_law_do_not_contradict_it(seed):
    planner = Planner(*runs(LAW.loss, seed))
    assert sum(best.inside for best in planner._equal_compute.optima) >= 3
    assert planner.contrary == "" and planner.advice is planner.trade_off


@pytest.fixture(scope="module")
def contrary():
    return Planner(*runs(steep, 0))


def test_another_growth_is_told(contrary):
    assert "grow like compute to the power of 0.86 (0.81 to 0.92), by the joint law" in contrary.contrary
    assert "the law does not hold for these runs" in contrary.contrary
    assert "the intervals of best sizes hold both" in contrary.contrary


@pytest.mark.parametrize("compute", [1e17, 1e19, 1e21])
def test_both_readings_are_inside_and_the_advice_is_near_equal_compute(contrary, compute):
    best = contrary.optimum(compute)
    law, truth = np.median(contrary.trade_off.optimum(compute)[0]), best_size(compute)
    assert best.size.lower[0.9] < min(law, truth) and max(law, truth) < best.size.upper[0.9]
    assert best.size.median == pytest.approx(truth, rel=0.25)
    assert best.data.lower[0.9] < compute / 6 / truth < best.data.upper[0.9]
    assert best.size.median * best.data.median * 6 == pytest.approx(compute, rel=1e-9)


def test_between_the_two_readings_it_is_open_what_to_spend_on(contrary):
    law, truth = float(np.median(contrary.trade_off.optimum(1e17)[0])), best_size(1e17)
    assert law > 2 * truth
    n = float(law**0.3 * truth**0.7)
    by_size, by_data = contrary.trade_off.gains(n, 1e17 / 6 / n)
    assert np.mean(by_size > by_data) > 0.9  # the law alone would be sure
    choice = contrary.more_data_or_bigger_model(n, 1e17 / 6 / n)
    assert choice.verdict == "cannot tell" and 0.5 < choice.share < 0.9


def test_a_best_size_of_the_same_growth_but_elsewhere_is_told(contrary):
    exponent, log_k = contrary._equal_compute.draws
    log_g = log_k + exponent * np.log(6)
    assert disagreement(LAW.with_growth(exponent, log_g), contrary._equal_compute) == ""
    told = disagreement(LAW.with_growth(exponent, log_g + np.log(5)), contrary._equal_compute)
    assert told.startswith("For ") and "FLOPs the best size of equal compute is " in told


def test_the_least_error_for_a_budget_is_the_laws(contrary):
    drawn = either(contrary.trade_off, contrary._equal_compute, 6.0)
    for compute in (1e19, 1e22):
        of_law = contrary.trade_off.best_loss(compute)
        np.testing.assert_allclose(drawn.best_loss(compute), of_law, rtol=1e-6)


def test_the_growth_spreads_as_that_of_studies_run_anew(monkeypatch):
    """Each size has its own luck, at all budgets. What the grid of sizes hides comes on top."""
    budgets, noise = np.geomspace(1e16, 1e17, 5), 0.002
    anew = [isoflop_optima(*runs(LAW.loss, seed, noise), budgets, replicates=0) for seed in range(200)]
    exponents = [found.growth.exponent for found in anew if all(best.inside for best in found.optima)]
    assert len(exponents) > 190 and all(found.draws.shape == (2, 0) for found in anew)
    exact = runs(LAW.loss, 0, 0.0)
    with_grid = isoflop_optima(*exact, budgets, log_noise=noise, replicates=1000)
    monkeypatch.setattr(isoflop, "NARROWEST", 0.0)
    without = isoflop_optima(*exact, budgets, log_noise=noise, replicates=1000)
    assert np.std(without.draws[0]) == pytest.approx(np.std(exponents), rel=0.2)
    assert np.std(with_grid.draws[0]) == pytest.approx(with_grid.growth.exponent_std, rel=0.2)
