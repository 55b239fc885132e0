"""How much processor time do the fits take, beside scipy and published packages on the same work?

    python benchmarks/speed.py --data FOLDER

All of it is processor time of one process on one thread, medians over rounds. A ratio is our first row
over the peer's in a round, its spread the smallest and largest. Where a peer takes too long, a part of its
work is timed and multiplied; the table says so.

Curves: `E + A x^-alpha` over three decades with 1 % noise. One fit and 1,000 resamples by
`resample_curve`, beside scipy's `curve_fit` and `least_squares`, both with exact derivatives, from five
starts for one fit and from the fit for each resample. Joint law: the 240 runs of Hoffmann et al. 2022 as
read by Besiroglu et al. 2024, beside L-BFGS-B with an exact gradient from Hoffmann's 4,500 starts, and the
packages `chinchilla` and `vpnls`. The packages may lie in a folder of their own (`pip install --target
PEERS chinchilla`, then --peers-path PEERS).
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.optimize import curve_fit, least_squares, minimize

import foretrain
import joint_peers
from foretrain.resampling import KINDS, resample_curve, resample_joint

SIZES = (20, 100, 1000)
RESAMPLES = 1000
SAMPLE = 50
"""Of so many resamples a peer is timed."""

Work = Callable[[], object]


def cpu() -> float:
    """Processor seconds of this process and of its ended children."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def timed(work: Work, *, repeat: int = 1) -> float:
    """Milliseconds of processor time of one call."""
    begun = cpu()
    for _ in range(repeat):
        work()
    return 1e3 * (cpu() - begun) / repeat


def compare(
    ours: dict[str, Work], peers: dict[str, tuple[Work, float]], rounds: int, repeat: int
) -> list[tuple[str, ...]]:
    """Times our work and each peer's in turn, round by round; a peer's time is multiplied by its factor."""
    times: dict[str, list[float]] = {name: [] for name in (*ours, *peers)}
    for work in ours.values():
        work()
    for _ in range(rounds):
        for name, work in ours.items():
            times[name].append(timed(work, repeat=repeat))
        for name, (work, factor) in peers.items():
            times[name].append(factor * timed(work))
    rows = [(name, told(np.median(times[name])), "", "") for name in ours]
    for name in peers:
        ratio = np.array(times[next(iter(ours))]) / times[name]
        spread = f"{ratio.min():.2g} to {ratio.max():.2g}"
        rows.append((name, told(np.median(times[name])), f"{np.median(ratio):.2g}", spread))
    return rows


def told(milliseconds: float) -> str:
    """Three digits."""
    return f"{milliseconds:.3g}" if milliseconds < 1e4 else f"{milliseconds:.0f}"


def curve(n: int) -> tuple[np.ndarray, np.ndarray]:
    """A learning curve of n points."""
    x = np.geomspace(1e3, 1e6, n)
    return x, (0.5 + 30 * x**-0.4) * np.exp(np.random.default_rng(n).normal(0, 0.01, n))


def law(x: np.ndarray, e: float, a: float, alpha: float) -> np.ndarray:
    """The law, and below its derivatives."""
    return e + a * x**-alpha


def slopes(x: np.ndarray, e: float, a: float, alpha: float) -> np.ndarray:
    """Shape (n, 3)."""
    power = x**-alpha
    return np.stack([np.ones_like(x), power, -a * np.log(x) * power], axis=1)


BOUNDS = ([0, 0, 0.01], [np.inf, np.inf, 3])


def by_curve_fit(x: np.ndarray, y: np.ndarray, starts: list[np.ndarray]) -> np.ndarray:
    """The `curve_fit` on relative residuals, x and y scaled; the best of the starts."""
    fits = [curve_fit(law, x, y, start, y, jac=slopes, bounds=BOUNDS)[0] for start in starts]
    return min(fits, key=lambda theta: float(((law(x, *theta) / y - 1) ** 2).sum()))


def by_least_squares(x: np.ndarray, y: np.ndarray, starts: list[np.ndarray]) -> np.ndarray:
    """The `least_squares` on the same."""
    fits = [
        least_squares(
            lambda theta: law(x, *theta) / y - 1,
            start,
            jac=lambda theta: slopes(x, *theta) / y[:, None],
            bounds=BOUNDS,
            x_scale="jac",
        )
        for start in starts
    ]
    return min(fits, key=lambda fit: float(fit.cost)).x


def curve_tables(rounds: int) -> list[Table]:
    """One fit with and without its resamples, by the number of points."""
    tables = []
    for n in SIZES:
        x, y = curve(n)
        u, v = x / x.min(), y / np.exp(np.log(y).mean())
        starts = [np.array([0.5 * v.min(), v.max(), alpha]) for alpha in (0.05, 0.15, 0.4, 1.0, 2.5)]
        best = by_least_squares(u, v, starts)
        fitted = law(u, *best)
        residuals = (v / fitted)[np.random.default_rng(0).integers(0, n, (SAMPLE, n))]

        def resamples(method: Callable, u=u, fitted=fitted, residuals=residuals, best=best) -> None:
            for residual in residuals:
                method(u, fitted * residual, [np.clip(best, [1e-6, 1e-6, 0.011], [9e9, 9e9, 2.99])])

        peers = {
            "curve_fit, 5 starts": (lambda u=u, v=v, starts=starts: by_curve_fit(u, v, starts), 1.0),
            "least_squares, 5 starts": (lambda u=u, v=v, starts=starts: by_least_squares(u, v, starts), 1.0),
        }
        ours = {"foretrain": lambda x=x, y=y: resample_curve(x, y, n_resamples=1)}
        rows = compare(ours, peers, rounds, 5)
        tables.append(table(f"{n} points: one fit (ours with one resample)", rows))
        factor = RESAMPLES / SAMPLE
        peers = {
            f"curve_fit, {SAMPLE} timed, times {factor:g}": (lambda f=resamples: f(by_curve_fit), factor),
            f"least_squares, {SAMPLE} timed, times {factor:g}": (
                lambda f=resamples: f(by_least_squares),
                factor,
            ),
        }
        ours = {f"foretrain, {k}": lambda x=x, y=y, k=k: resample_curve(x, y, kind=k) for k in KINDS}
        rows = compare(ours, peers, rounds, 3)
        tables.append(table(f"{n} points: one fit and {RESAMPLES} resamples", rows))
    return tables


def forecast_table(rounds: int) -> Table:
    """`forecast`, called as the user would."""
    rows = []
    for n in SIZES:
        x, y = curve(n)
        foretrain.forecast(x, y, [4e6])
        times = [timed(lambda x=x, y=y: foretrain.forecast(x, y, [4e6]), repeat=3) for _ in range(3 * rounds)]
        rows.append((f"{n} points", told(np.median(times)), "", f"{min(times):.3g} to {max(times):.3g} ms"))
    return table("foretrain.forecast, one call", rows)


def joint_tables(folder: Path, rounds: int, console: Console) -> list[Table]:
    """The joint law: one optimum, and its resamples."""
    runs = joint_peers.runs(folder)
    logs = tuple(np.log(part) for part in runs)

    def objective(theta: np.ndarray, points: tuple[np.ndarray, ...] = logs) -> float:
        return joint_peers.huber(np.array([*np.log(np.maximum(theta[:3], 1e-300)), *theta[3:]]), *points)[0]

    console.print(f"objective: foretrain {objective(resample_joint(*runs, n_resamples=1).theta):.10f}")
    console.print(f"objective: L-BFGS-B {joint_peers.by_hoffmann(*runs):.10f}")
    factor = len(joint_peers.HOFFMANN) / joint_peers.STARTS
    hoffmann = f"L-BFGS-B, {joint_peers.STARTS} of {len(joint_peers.HOFFMANN)} starts timed, times {factor:g}"
    peers: dict[str, tuple[Work, float]] = {hoffmann: (lambda: joint_peers.by_hoffmann(*runs), factor)}
    for name, method in (
        ("chinchilla, 32 starts", joint_peers.by_chinchilla),
        ("vpnls, its own loss", joint_peers.by_vpnls),
    ):
        try:
            theta = method(*runs)
        except ImportError as error:
            console.print(f"{name}: not installed ({error})")
            continue
        console.print(f"objective: {name} {objective(theta):.10f} at {np.array2string(theta, precision=5)}")
        peers[name] = (lambda method=method: method(*runs), 1.0)
    fit = compare({"foretrain": lambda: resample_joint(*runs, n_resamples=1)}, peers, min(rounds, 3), 5)

    resampled = resample_joint(*runs)
    indices = np.random.default_rng(0).integers(0, len(runs[0]), (SAMPLE, len(runs[0])))  # the first of ours

    def warm(options: dict[str, float]) -> list[float]:
        start = [*np.log(resampled.theta[:3]), *resampled.theta[3:]]
        samples = (tuple(part[index] for part in logs) for index in indices)
        return [
            minimize(joint_peers.huber, start, sample, "L-BFGS-B", jac=True, options=options).fun
            for sample in samples
        ]

    points = [tuple(part[index] for part in logs) for index in indices]
    ours = [objective(theta, one) for theta, one in zip(resampled.draws, points, strict=False)]
    peers = {}
    for name, options in (("", {}), (", tight", joint_peers.TIGHT)):
        above = np.array(warm(options)) / ours - 1
        console.print(
            f"resamples: L-BFGS-B{name} ends above foretrain by {np.median(above):.1e} (median), "
            f"{above.min():.1e} to {above.max():.1e}, relatively"
        )
        label = f"L-BFGS-B from the optimum{name}, {SAMPLE} timed, times {RESAMPLES / SAMPLE:g}"
        peers[label] = (lambda options=options: warm(options), RESAMPLES / SAMPLE)
    rows = compare({"foretrain": lambda: resample_joint(*runs)}, peers, rounds, 1)
    return [
        table("joint law, 240 runs: the optimum (ours with one resample)", fit),
        table(f"joint law, 240 runs: the optimum and {RESAMPLES} resamples", rows),
    ]


def table(title: str, rows: list[tuple[str, ...]]) -> Table:
    """Name, milliseconds, ratio and spread."""
    shown = Table(title=title, title_justify="left")
    for name in ("", "ms of processor time", "foretrain / this", "spread"):
        shown.add_column(name, justify="left" if not name else "right")
    for row in rows:
        shown.add_row(*row)
    return shown


def main() -> None:
    """Prints every table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    home = os.environ.get("FORETRAIN_DATA")
    parser.add_argument(
        "--data", type=Path, default=home, help="folder of the published runs; joint law only"
    )
    parser.add_argument("--rounds", type=int, default=5, help="how often everything is timed (default: 5)")
    parser.add_argument("--peers-path", type=Path, help="folder of packages outside the environment")
    args = parser.parse_args()
    if args.peers_path is not None:
        sys.path.append(str(args.peers_path))
    warnings.simplefilter("ignore")
    console = Console(width=120)
    console.print(forecast_table(args.rounds))
    for one in curve_tables(args.rounds):
        console.print(one)
    if args.data is None or not (Path(args.data) / "epoch_chinchilla").is_dir():
        console.print("No published runs: give --data, or FORETRAIN_DATA, for the joint law.")
        return
    for one in joint_tables(Path(args.data), args.rounds, console):
        console.print(one)


if __name__ == "__main__":
    main()
