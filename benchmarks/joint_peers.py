"""The joint law by others: L-BFGS-B as Hoffmann et al. 2022 have it, and published packages."""

from __future__ import annotations

import contextlib
import csv
import itertools
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from scipy.optimize import minimize

HOFFMANN = list(
    itertools.product(
        np.arange(-1, 1.5, 0.5),
        np.arange(0, 30, 5),
        np.arange(0, 30, 5),
        np.arange(0, 2.5, 0.5),
        np.arange(0, 2.5, 0.5),
    )
)
"""Starts e, a, b, alpha, beta of Hoffmann et al. 2022, section 3.3."""

TIGHT = {"ftol": 1e-15, "gtol": 1e-11, "maxiter": 3000, "maxfun": 5000, "maxcor": 30}
"""Options of L-BFGS-B without which it stops early: the objective is small."""

STARTS = 30
"""Of so many of them, drawn at random, L-BFGS-B is timed."""


def runs(folder: Path) -> tuple[np.ndarray, ...]:
    """N, D and loss of the 240 runs."""
    with (folder / "epoch_chinchilla" / "chinchilla_runs.csv").open() as file:
        rows = sorted(csv.DictReader(file), key=lambda row: float(row["loss"]))[:-5]
    return tuple(np.array([float(row[name]) for row in rows]) for name in ("N", "D", "loss"))


def huber(
    q: np.ndarray, t: np.ndarray, s: np.ndarray, log_y: np.ndarray, delta: float = 1e-3
) -> tuple[float, np.ndarray]:
    """The sum of Huber losses and its gradient by e, a, b, alpha and beta, as Hoffmann et al. have it."""
    parts = np.exp([np.full_like(t, q[0]), q[1] - q[3] * t, q[2] - q[4] * s])
    f = parts.sum(axis=0)
    r = np.log(f) - log_y
    psi = np.clip(r, -delta, delta)
    e, a, b = parts * (psi / f)
    value = float((np.abs(psi) * (np.abs(r) - np.abs(psi) / 2)).sum())
    return value, np.array([e.sum(), a.sum(), b.sum(), -a @ t, -b @ s])


def by_hoffmann(n: np.ndarray, d: np.ndarray, y: np.ndarray) -> float:
    """The least objective from a part of Hoffmann's starts."""
    arguments, some = (
        (np.log(n), np.log(d), np.log(y)),
        np.random.default_rng(0).permutation(HOFFMANN)[:STARTS],
    )
    return min(minimize(huber, start, arguments, "L-BFGS-B", jac=True).fun for start in some)


def by_chinchilla(n: np.ndarray, d: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The package `chinchilla` with log Huber at delta 1e-3, from 32 starts, in a folder thrown away."""
    from chinchilla import Chinchilla
    from chinchilla._metrics import log_huber

    grid = {"e": [0, 1], "a": [5, 10], "b": [5, 10], "alpha": [0.25, 0.5], "beta": [0.25, 0.5]}
    with (
        TemporaryDirectory() as folder,
        Path(os.devnull).open("w") as nothing,
        contextlib.redirect_stdout(nothing),
    ):
        table = np.stack([6 * n * d, n, d, y], axis=1)
        np.savetxt(
            Path(folder) / "df.csv", table, delimiter=",", header="C,N,D,loss", comments="", fmt="%.17g"
        )
        model = Chinchilla(folder, grid, loss_fn=lambda true, told: log_huber(true, told, 1e-3), log_level=40)
        model.fit()
    return np.array([float(getattr(model, name)) for name in ("E", "A", "B", "alpha", "beta")])


def by_vpnls(n: np.ndarray, d: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The package `vpnls` with its Huber loss, which is of the residuals themselves, not of the logs."""
    from vpnls.api import fit_vpnls
    from vpnls.api import huber as vpnls_huber

    found = fit_vpnls(n, d, y, method="scipy", loss=vpnls_huber(1e-3))
    return np.array([found.E, found.A, found.B, found.alpha, found.beta])
