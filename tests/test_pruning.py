"""The joint law of pruned networks: its limits, its fit, and the smallest network for a target."""

import numpy as np
import pytest

from foretrain.axes import Counts
from foretrain.laws import LAWS
from foretrain.observation import Observation, RunInfo, RunRecord
from foretrain.pruning import (
    JointPruningLaw,
    PrunedNetwork,
    PruningCurve,
    fit_curves,
    fit_joint_pruning,
    leave_networks_out,
    pruning_curve,
    smallest_for,
)

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
    assert LAW.predict(1, 1, 0.0, 0.04) == pytest.approx(0.9, rel=1e-12)
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


def test_where_deeper_networks_need_more_of_their_weights_the_exponent_of_depth_is_negative():
    law = JointPruningLaw(upper=0.8, gamma=1.3, p=0.1, phi=-0.5, psi=0.9)
    told = fit_joint_pruning(*pruned(0.01, law=law))
    assert (told.phi, told.psi) == (pytest.approx(-0.5, abs=0.03), pytest.approx(0.9, abs=0.03))
    assert told.std == pytest.approx(0.01, rel=0.2)


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


def run_of(name, measured, metric="test_error", total=110):
    """A run of a network of 100 weights and 10 biases; `measured` is densities, each with an error."""
    told = [
        Observation(name, metric, value, Counts(1, step, params_total=total, density=density))
        for step, (density, value) in enumerate(measured, 1)
    ]
    return RunRecord(RunInfo(name), tuple(told), "finished")


def test_a_curve_is_the_last_error_at_each_share_of_the_weights_averaged_over_seeds():
    one = run_of("one", [(None, 0.3), (None, 0.1), (60 / 110, 0.5), (60 / 110, 0.2), (15 / 110, 0.6)])
    others = [
        run_of("two", [(1.0, 0.2)]),
        run_of("three", [(60 / 110, 0.3)]),
        run_of("four", [(15 / 110, 0.8)]),
    ]
    curve = pruning_curve([one, *others], "test_error", depth=2, width=8, weights=100)
    assert curve.density == pytest.approx([1, 0.5, 0.05]) and curve.error == pytest.approx([0.15, 0.25, 0.7])
    assert curve.network == PrunedNetwork(2, 8, 100, pytest.approx(0.15))
    noise = run_of("one", [(None, 9.0)], metric="val_loss")
    assert (
        pruning_curve([*others, noise, one], "test_error", depth=2, width=8, weights=100).unpruned
        == curve.unpruned
    )


def test_where_a_measured_curve_passes_a_target():
    curve = PruningCurve(1, 1, 100, [1, 0.5, 0.1, 0.05], [0.1, 0.09, 0.4, 0.8])
    assert curve.density_for(0.19) == pytest.approx(
        0.5 * (0.1 / 0.5) ** (np.log(0.19 / 0.09) / np.log(0.4 / 0.09))
    )
    assert np.isnan(curve.density_for(0.095)) and curve.density_for(0.9) == 0.05
    assert curve.density_for(0.4) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("measured", "weights", "message"),
    [
        (
            [(0.5, 0.3)],
            100,
            "'test_error' of the network unpruned, got densities of 1 others: measure it before",
        ),
        (
            [(None, 0.1), (0.01, 0.3)],
            100,
            "100 weights .* got 110 parameters of which 109 are gone in the run 'r'",
        ),
        ([(None, 0.1)], 111, "Expected 111 weights .* got 110 parameters of which 0 are gone"),
        ([(None, 0.1), (0.5, float("nan"))], 100, "`error` to hold positive, finite numbers, got nan"),
        ([], 100, "got densities of 0 others"),
    ],
)
def test_runs_that_make_no_curve_are_refused_with_the_remedy(measured, weights, message):
    with pytest.raises(ValueError, match=message):
        pruning_curve([run_of("r", measured)], "test_error", depth=1, width=1, weights=weights)


def test_a_curve_falls_from_the_whole_network():
    for density in ([0.9, 0.5], [1.0, 0.5, 0.5]):
        with pytest.raises(
            ValueError, match=r"`density` to fall from 1, got .* begin with the network unpruned"
        ):
            PruningCurve(1, 1, 100, density, np.full(len(density), 0.1))
    with pytest.raises(ValueError, match="arrays of the same length"):
        PruningCurve(1, 1, 100, [1.0, 0.5], [0.1])


def curves_of(noise=0.0):
    columns = [np.split(column, len(SHAPES)) for column in pruned(noise)]
    return [
        PruningCurve(depth[0], width[0], 1e4 * depth[0] * width[0] ** 2, density, error)
        for depth, width, density, _, error in zip(*columns, strict=True)
    ]


def test_a_law_of_curves_is_that_of_their_points():
    curves = curves_of(0.02)
    depth, width, density, _, error = pruned(0.02)
    unpruned = np.repeat([curve.unpruned for curve in curves], len(DENSITIES))
    assert fit_curves(curves, upper=0.9) == fit_joint_pruning(
        depth, width, density, unpruned, error, upper=0.9
    )


def test_a_network_is_judged_by_the_law_of_the_others_alone():
    curves = curves_of()[:4]
    for place in (0, 3):  # an error that is twice that of its kind once it is pruned
        odd = curves[place]
        error = np.where(odd.density < 1, 2 * odd.error, odd.error)
        changed = [
            *curves[:place],
            PruningCurve(1, odd.width, odd.weights, odd.density, error),
            *curves[place + 1 :],
        ]
        told = leave_networks_out(changed, upper=0.9)
        # The error unpruned that it is given is the law's at density 1, a little above its limit.
        assert told.relative[place] == pytest.approx(np.full(11, -0.5), abs=0.02)
        assert told.laws[place].psi == pytest.approx(LAW.psi, rel=0.02)
        rest = [law.psi for other, law in enumerate(told.laws) if other != place]
        assert min(abs(psi / LAW.psi - 1) for psi in rest) > 0.02, "there it is one of those fitted"
        whole = np.concatenate(told.relative)
        assert (told.mean, told.std) == (pytest.approx(whole.mean()), pytest.approx(whole.std()))
    with pytest.raises(ValueError, match="at least 3 networks, got 2: prune more"):
        leave_networks_out(curves[:2])
