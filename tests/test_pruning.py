"""The joint law of pruned networks: its limits, its fit, and the smallest network for a target."""

import numpy as np
import pytest

from foretrain.laws import LAWS
from foretrain.pruning import JointPruningLaw, PrunedNetwork, fit_joint_pruning, smallest_for

LAW = JointPruningLaw(upper=0.9, gamma=0.6, p=0.002, phi=1.2, psi=0.8)
SHAPES = [(depth, width) for depth in (1.0, 2.0, 4.0) for width in (0.25, 0.5, 1.0, 2.0)]
DENSITIES = 0.6 ** np.arange(12)


def pruned(noise=0.0, shapes=SHAPES, law=LAW):
    """Twelve networks at twelve densities."""
    rng = np.random.default_rng(0)
    rows = [(d, w, kept, 0.05 * (d * w) ** -0.2) for d, w in shapes for kept in DENSITIES]
    depth, width, density, unpruned = np.array(rows).T
    error = law.predict(depth, width, density, unpruned) * np.exp(rng.normal(0, noise, len(rows)))
    return depth, width, density, unpruned, error


def test_the_limits_of_the_law():
    assert LAW.predict(4, 4, 1.0, 0.04) == pytest.approx(0.04, rel=1e-3)  # m = 16: far above the climb
    assert LAW.predict(1, 1, 1e-9, 0.04) == pytest.approx(0.9, rel=1e-6)
    middle = LAW.predict(1, 1, np.array([0.01, 0.02]), 0.04)
    assert 0.04 < middle[1] < middle[0] < 0.9
    # In between it climbs as a power of the density.
    wide = JointPruningLaw(upper=1e6, gamma=0.6, p=1e-9, phi=1, psi=1)
    a, b = wide.predict(1, 1, np.array([1e-4, 2e-4]), 0.04)
    assert np.log(a / b) / np.log(2) == pytest.approx(0.6, rel=1e-3)


def test_of_one_network_it_is_the_law_of_one_network():
    theta = np.array([0.04, 0.9 / 0.04, 0.6, 0.002])
    one = LAWS["pruning"].value(DENSITIES[None], theta)
    assert LAW.predict(1.0, 1.0, DENSITIES, 0.04) == pytest.approx(one)


def test_the_constants_are_recovered():
    told = fit_joint_pruning(*pruned(0.02))
    for name, rel in (("gamma", 0.1), ("p", 0.3), ("phi", 0.05), ("psi", 0.05), ("upper", 0.2)):
        assert getattr(told, name) == pytest.approx(getattr(LAW, name), rel=rel), name
    assert abs(told.mean) < 0.005 and told.std == pytest.approx(0.02, rel=0.2)


def test_what_does_not_vary_has_no_exponent_and_a_known_level_is_held():
    depth, width, density, unpruned, error = pruned(shapes=[(2.0, w) for w in (0.5, 1.0, 2.0)])
    told = fit_joint_pruning(depth, width, density, unpruned, error, upper=0.9)
    assert told.phi == 0 and told.upper == pytest.approx(0.9)
    assert told.psi == pytest.approx(0.8, rel=0.01) and told.std < 1e-3
    # The depth that does not vary is in p: m is smaller by 2^phi in the fit's units.
    assert told.p == pytest.approx(0.002 / 2**1.2, rel=0.02)


def test_the_density_for_a_target_is_where_the_law_has_it():
    for target in (0.1, 0.3, 0.8):
        density = LAW.density_for(target, 2.0, 1.0, 0.04)
        assert LAW.predict(2.0, 1.0, density, 0.04) == pytest.approx(target)
    assert np.isnan(LAW.density_for(0.03, 2.0, 1.0, 0.04)) and LAW.density_for(0.95, 2.0, 1.0, 0.04) == 0


def test_the_smallest_network_is_the_one_a_search_finds():
    networks = [PrunedNetwork(d, w, 1e4 * d * w**2, 0.05 * (d * w) ** -0.2) for d, w in SHAPES]
    network, density = smallest_for(LAW, networks, 0.08)
    grid = np.geomspace(1e-5, 1, 4000)
    sought = []
    for other in networks:
        errors = LAW.predict(other.depth, other.width, grid, other.unpruned)
        if (errors <= 0.08).any():
            sought.append((grid[errors <= 0.08][0] * other.params, other))
    best = min(sought, key=lambda pair: pair[0])
    assert network == best[1] and density * network.params == pytest.approx(best[0], rel=0.01)
    assert smallest_for(LAW, networks, 0.01) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: [values[:8] for values in a], "at least 12 points with densities up to 1, got 8"),
        (lambda a: [*a[:2], a[2] * 100, *a[3:]], "densities up to 1, got 144 up to 100: prune more"),
        (lambda a: [*a[:4], -a[4]], "`error` to hold positive"),
    ],
)
def test_bad_input_is_refused_with_the_remedy(change, message):
    with pytest.raises(ValueError, match=message):
        fit_joint_pruning(*change(pruned()))
    with pytest.raises(ValueError, match=r"`upper` above the largest error unpruned, .*, got 0.01"):
        fit_joint_pruning(*pruned(), upper=0.01)
