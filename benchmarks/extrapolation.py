"""How far off is `forecast` on published learning curves, beside its peers?

    python benchmarks/extrapolation.py --data FOLDER [--horizon 2 4 8] [--methods ...] [--every K]
                                       [--peers-path FOLDER] [--markdown] [--attainable]

The curves and how they are cut: `curves.py`. The methods: `peers/`. RMSLE is the root mean square of
ln(predicted / measured) over a curve's held-out points. Ratios are of mean RMSLE over curves; their intervals
come from the jackknife by groups of curves (one data set and model). A win is a lower RMSLE, "worst" the
largest ratio on one curve, errors below .001 counted as .001. Where a method has no positive number to offer,
the last value stands in ("fell back"). Times are medians of processor time, with OMP_NUM_THREADS=1 those of
one thread. With --attainable, "line" is a straight line in logarithms drawn through the held-out points
themselves, and "best shape" the one of those that `forecast` averages that turns out to be nearest to them,
with the level that it has in the fitted part: what a choice of law in hindsight would reach.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from curves import Curve
from foretrain.forecasting.uncertainty import FINE, model_curve
from options import parse
from peers import DEFAULT, Timed, answers, packages
from scores import EVENLY, Sheet, ends, evenly, ratio_interval, rmsle, share, short, with_ends, worst_ratio

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


def compared(curves: Sequence[Curve], errors: dict[str, np.ndarray], said: dict[str, list[Timed]]) -> Sheet:
    """Every method over M4, ours over every method, and what each costs."""
    groups = [curve.group for curve in curves]

    def told(above: str, below: str) -> list[str]:
        if above == below or not {above, below} <= set(errors):
            return ["-"] * 3
        ratio = ratio_interval(errors[above], errors[below], groups)
        wins = f"{float((errors[above] < errors[below]).mean()):.0%}"
        worst = worst_ratio(errors[above], errors[below])
        return [with_ends(*ratio), wins, f"{worst:.1f}"]

    pairs = f"over {RIVAL}", f"{OURS} over it"
    heads = [f"{pair}{what}" for pair in pairs for what in ("", ": wins", ": worst")]
    sheet = Sheet("All curves: ratios of mean RMSLE (95 %)", ["method", *heads, "ms a curve", "fell back"])
    for name, answers_ in said.items():
        cost = f"{1000 * float(np.median([s.seconds for s in answers_])):.1f}"
        fell_back = str(sum(s.failed for s in answers_))
        sheet.add(name, *told(name, RIVAL), *told(OURS, name), cost, fell_back)
    return sheet


def by_domain(rival: str, curves: Sequence[Curve], errors: dict[str, np.ndarray]) -> Sheet:
    """Ours against one rival, by domain."""
    columns = ["domain", "curves", "groups", "ratio", "95 % interval", "wins", "worst ratio on a curve"]
    sheet = Sheet(f"{OURS} / {rival} by domain", columns)
    ours, theirs, ratios = errors[OURS], errors[rival], []
    for domain, mask in domains_of(curves).items():
        groups = [curve.group for curve, chosen in zip(curves, mask, strict=True) if chosen]
        ratio, low, high = ratio_interval(ours[mask], theirs[mask], groups)
        wins = f"{float((ours[mask] < theirs[mask]).mean()):.0%}"
        worst = f"{worst_ratio(ours[mask], theirs[mask]):.1f}"
        interval = ends(low, high)
        sheet.add(domain, str(mask.sum()), str(len(set(groups))), share(ratio), interval, wins, worst)
        ratios.append(ratio)
    sheet.add(EVENLY, "", "", share(evenly(ratios[:-1])), "", "", "")
    return sheet


def line_through(curve: Curve) -> float:
    """RMSLE of the least-squares line of ln y over ln x through the held-out points themselves."""
    log_x, log_y = np.log(curve.x_far), np.log(curve.y_far)
    design = np.stack([np.ones_like(log_x), log_x - log_x[0]], axis=1)
    return rmsle(np.exp(design @ np.linalg.lstsq(design, log_y, rcond=None)[0]), curve.y_far)


def best_shape(curve: Curve) -> float:
    """RMSLE of that shape of `forecast`'s grid, as fitted in either window, that proves nearest."""
    model = model_curve(curve.x, curve.y)
    if model.average is None:
        return rmsle(np.full(curve.x_far.shape, np.exp(model.level)), curve.y_far)
    logs = FINE.logs(np.log(curve.x_far) - model.log_top)
    error = model.average.levels[:, :, None] + logs[None] - np.log(curve.y_far)
    return float(np.sqrt((error**2).mean(axis=2)).min())


def attainable(curves: Sequence[Curve], errors: dict[str, np.ndarray], horizon: float) -> Sheet:
    """Mean RMSLE of what hindsight would have said, beside every method."""
    hindsight = {
        "line": np.array([line_through(curve) for curve in curves]),
        "best shape": np.array([best_shape(curve) for curve in curves]),
    }
    sheet = Sheet(f"{horizon:g}x: mean RMSLE in hindsight", ["domain", "curves", *errors, *hindsight])
    for domain, mask in domains_of(curves).items():
        told = [short(e[mask].mean()) for e in (errors | hindsight).values()]
        sheet.add(domain, str(mask.sum()), *told)
    return sheet


def main() -> None:
    """Prints accuracy and cost, one set of tables for each horizon."""
    options = parse(__doc__, DEFAULT)
    for horizon, curves in options.curves():
        said = answers(options.methods, curves)
        errors = {
            name: np.array([rmsle(s.median, c.y_far) for s, c in zip(told, curves, strict=True)])
            for name, told in said.items()
        }
        accuracy(curves, errors, horizon).show(markdown=options.markdown)
        compared(curves, errors, said).show(markdown=options.markdown)
        if {OURS, RIVAL} <= set(errors):
            by_domain(RIVAL, curves, errors).show(markdown=options.markdown)
        if options.attainable:
            attainable(curves, errors, horizon).show(markdown=options.markdown)
    print(f"\n{packages.FOOTNOTE}")


if __name__ == "__main__":
    main()
