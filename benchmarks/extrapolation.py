"""How far off is `forecast` on published learning curves, beside its peers?

    python benchmarks/extrapolation.py --data FOLDER [--horizon 2 4 8] [--methods ...] [--markdown]

The curves and how they are cut: `curves.py`. The methods: `peers/`. RMSLE is the root mean square of
ln(predicted / measured) over a curve's held-out points. Ratios are of mean RMSLE over curves; their intervals
come from a bootstrap of groups of curves (one data set and model).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

from curves import Curve, add_data_option, load
from peers import DEFAULT, METHODS, Timed, answers
from scores import Sheet, ratio_interval, rmsle, share, short

OURS = "foretrain"
RIVAL = "M4"


def domains_of(curves: Sequence[Curve]) -> dict[str, np.ndarray]:
    """Which curves are of which domain, as they appear, and all at the end; masks of shape (curves,)."""
    of = np.array([curve.domain for curve in curves])
    return {d: of == d for d in dict.fromkeys(of.tolist())} | {"all": np.ones(of.size, dtype=bool)}


def accuracy(curves: Sequence[Curve], errors: dict[str, np.ndarray], horizon: float) -> Sheet:
    """Mean and median RMSLE by domain."""
    sheet = Sheet(f"{horizon:g}x: mean RMSLE (median)", ["domain", "curves", *errors])
    for domain, mask in domains_of(curves).items():
        told = [f"{short(e[mask].mean())} ({short(float(np.median(e[mask])))})" for e in errors.values()]
        sheet.add(domain, str(mask.sum()), *told)
    return sheet


def against(
    rival: str, curves: Sequence[Curve], errors: dict[str, np.ndarray], said: dict[str, list[Timed]]
) -> Sheet:
    """Every method against one: ratio, wins, the worst curve; and what each costs."""
    sheet = Sheet(
        f"Against {rival}, over all curves",
        ["method", "ratio", "95 % interval", "wins", "worst ratio on a curve", "ms a curve", "failed"],
    )
    groups = [curve.group for curve in curves]
    for name, error in errors.items():
        cost = f"{1000 * float(np.median([s.seconds for s in said[name]])):.1f}"
        failed = str(sum(s.failed for s in said[name]))
        if rival not in errors or name == rival:
            sheet.add(name, "-", "-", "-", "-", cost, failed)
            continue
        ratio, low, high = ratio_interval(error, errors[rival], groups)
        worst = float((error / np.maximum(errors[rival], 1e-12)).max())
        wins = f"{float((error < errors[rival]).mean()):.0%}"
        sheet.add(name, share(ratio), f"{share(low)} to {share(high)}", wins, f"{worst:.1f}", cost, failed)
    return sheet


def by_domain(rival: str, curves: Sequence[Curve], errors: dict[str, np.ndarray]) -> Sheet:
    """Ours against one rival, by domain."""
    columns = ["domain", "curves", "groups", "ratio", "95 % interval", "wins", "worst ratio on a curve"]
    sheet = Sheet(f"{OURS} / {rival} by domain", columns)
    ours, theirs = errors[OURS], errors[rival]
    for domain, mask in domains_of(curves).items():
        groups = [curve.group for curve, chosen in zip(curves, mask, strict=True) if chosen]
        ratio, low, high = ratio_interval(ours[mask], theirs[mask], groups)
        wins = f"{float((ours[mask] < theirs[mask]).mean()):.0%}"
        worst = f"{float((ours[mask] / np.maximum(theirs[mask], 1e-12)).max()):.1f}"
        interval = f"{share(low)} to {share(high)}"
        sheet.add(domain, str(mask.sum()), str(len(set(groups))), share(ratio), interval, wins, worst)
    return sheet


def main() -> None:
    """Prints accuracy and cost, one set of tables for each horizon."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_data_option(parser)
    parser.add_argument(
        "--horizon", type=float, nargs="+", default=[2.0], help="largest x over that of the fit"
    )
    parser.add_argument(
        "--methods",
        nargs="+",
        choices=METHODS,
        default=list(DEFAULT),
        metavar="METHOD",
        help=f"of {', '.join(METHODS)}",
    )
    parser.add_argument("--markdown", action="store_true", help="print tables to paste")
    options = parser.parse_args()
    for horizon in options.horizon:
        curves = load(options.data, horizon, options.sets)
        said = answers(options.methods, curves)
        errors = {
            name: np.array([rmsle(s.median, c.y_far) for s, c in zip(told, curves, strict=True)])
            for name, told in said.items()
        }
        accuracy(curves, errors, horizon).show(markdown=options.markdown)
        against(RIVAL, curves, errors, said).show(markdown=options.markdown)
        if {OURS, RIVAL} <= set(errors):
            by_domain(RIVAL, curves, errors).show(markdown=options.markdown)


if __name__ == "__main__":
    main()
