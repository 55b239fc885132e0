"""Draws of the joint law from what a family of runs leaves open."""

from __future__ import annotations

import numpy as np

from foretrain.decisions.allocation import JointLaw
from foretrain.families.model import FamilyModel
from foretrain.laws.law import Array

SMALLEST = 1e-6
"""A coefficient that is drawn at or below zero is set to this share of the error: no term vanishes, since
without one of them the best size is zero or infinite."""


def draw_laws(model: FamilyModel, count: int, seed: int = 0) -> JointLaw:
    """Laws drawn from an averaged family.

    A pair of exponents is drawn by its share, then E, A and B from the normal density that the noise of the
    runs leaves around their best values; points of one run do not count as independent (`FamilyModel`). Where
    the family's past forecasts missed by more than they said, the draws are spread by as much.

    Args:
        model: The averaged law.
        count: How many draws.
        seed: The same seed gives the same draws.

    Returns:
        Parameters in natural units, each of shape (count,).
    """
    rng = np.random.default_rng(seed)
    law = model.law
    # Stratified, so that no share is missed by chance.
    places = (np.arange(count) + rng.uniform(size=count)) / count
    pair = np.searchsorted(np.cumsum(law.weights)[:-1], rng.permutation(places))
    # The exponents are spread in full here, by a family that counts as few independent observations: that
    # holds the luck of whole runs, and E, A and B bear that of points.
    noise = model.inflation * model.residual
    precision = model.independent * law.gram + model.residual**2 * np.eye(3)
    root = np.linalg.cholesky(np.linalg.inv(precision))
    apart = np.einsum("mkl,ml->mk", root[pair], rng.normal(size=(count, 3)))
    coefficients = law.coefficients[pair] + noise * apart / law.norm[pair]
    floor = np.array([0.0, SMALLEST, SMALLEST]) / law.norm[pair]
    e, a, b = np.maximum(coefficients, floor).T * model.y_unit
    alpha, beta = law.exponents[:, pair]
    return JointLaw(e, a * _scale(model.unit[0], alpha), alpha, b * _scale(model.unit[1], beta), beta)


def _scale(unit: float, exponent: Array) -> Array:
    return np.asarray(np.exp(exponent * np.log(unit)))
