"""Do `forecast`'s intervals cover what they promise, and how wide must they be for it? Beside its peers.

    python benchmarks/calibration.py --data FOLDER [--horizon 2 4 8] [--methods ...] [--every K]
                                     [--peers-path FOLDER] [--markdown] [--attainable]

The curves and how they are cut: `curves.py`. Coverage is the mean over curves of the share of held-out points
inside, with the 95 % interval of the rate that so many groups of curves can tell (one data set and model; the
points of a curve miss together, see `widths.py`); "points" are a curve's distinct held-out x, their median.
The width is that of ln(upper / lower), its median over a curve's points, then over curves. The
interval score (Winkler) on the log scale adds to the width what points miss it by, so that neither wide nor
narrow intervals win: less is better. Ratios are of its mean over curves and both levels, with intervals from
the jackknife by groups of curves. With --attainable, the least interval score that symmetric intervals about
our own medians could have, were their width known in hindsight: one for each domain, and one for each curve.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from curves import Curve
from extrapolation import OURS, domains_of
from options import parse
from peers import LEVELS, Timed, answers
from scores import (
    EVENLY,
    Sheet,
    coverage,
    coverage_interval,
    evenly,
    log_ends,
    ratio_interval,
    share,
    short,
    winkler,
    with_ends,
)

DEFAULT = (OURS, "curve_fit + bootstrap")
FEW = 5
SMALL = f"all of fewer than {FEW} groups"
"""Name of the row of the domains that have few groups each."""


def measured(said: Sequence[Timed], curves: Sequence[Curve]) -> dict[float, np.ndarray]:
    """Coverage, width and interval score of each curve by level, shape (3, curves); nan without intervals."""
    found = {}
    for level in LEVELS:
        rows = []
        for told, curve in zip(said, curves, strict=True):
            if level not in told.intervals:
                rows.append((np.nan, np.nan, np.nan))
                continue
            lower, upper = told.intervals[level]
            low, high = log_ends(lower, upper, told.median)
            score = winkler(low, high, np.log(curve.y_far), level)
            rows.append(
                (coverage(lower, upper, curve.y_far), float(np.median(high - low)), float(score.mean()))
            )
        found[level] = np.array(rows).T
    return found


def with_small(curves: Sequence[Curve]) -> dict[str, np.ndarray]:
    """The masks of `domains_of`, and one of all domains that have few groups."""
    groups = np.array([curve.group for curve in curves])
    masks = domains_of(curves)
    few = [mask for name, mask in masks.items() if name != "all" and np.unique(groups[mask]).size < FEW]
    return masks | ({SMALL: np.any(few, axis=0)} if len(few) > 1 else {})


def covered(curves: Sequence[Curve], found: dict[str, dict[float, np.ndarray]], horizon: float) -> Sheet:
    """Coverage at each level with what the groups can tell of it, and width at the highest, by domain."""
    told = [*(f"{level:.0%}" for level in LEVELS), f"width of {LEVELS[-1]:.0%}"]
    columns = [
        "domain",
        "curves",
        "groups",
        "points",
        *(f"{name}: {what}" for name in found for what in told),
    ]
    sheet = Sheet(
        f"{horizon:g}x: coverage of held-out points (95 %), and median width on the log scale", columns
    )
    groups = np.array([curve.group for curve in curves])
    points = np.array([np.unique(curve.x_far).size for curve in curves])
    for domain, mask in with_small(curves).items():
        cells = []
        for by_level in found.values():
            said = mask & np.isfinite(by_level[LEVELS[-1]][0])
            if not said.any():
                cells += ["-"] * len(told)
                continue
            cells += [
                with_ends(*coverage_interval(by_level[level][0, said], list(groups[said])))
                for level in LEVELS
            ]
            cells.append(f"{float(np.median(by_level[LEVELS[-1]][1, said])):.3f}")
        many = str(mask.sum()), str(np.unique(groups[mask]).size), f"{np.median(points[mask]):g}"
        sheet.add(domain, *many, *cells)
    return sheet


def scored(curves: Sequence[Curve], found: dict[str, dict[float, np.ndarray]], horizon: float) -> Sheet:
    """Mean interval score by domain, and ours over each peer's, on the curves where both have intervals."""
    rivals = [name for name in found if name != OURS]
    ratios = [f"{OURS} / {name}" for name in rivals if OURS in found]
    sheet = Sheet(
        f"{horizon:g}x: mean interval score (less is better)", ["domain", "curves", *found, *ratios]
    )
    ratios_of: dict[str, list[float]] = {name: [] for name in rivals}
    both = {
        name: np.mean([by_level[level][2] for level in LEVELS], axis=0) for name, by_level in found.items()
    }
    groups = np.array([curve.group for curve in curves])
    for domain, mask in domains_of(curves).items():
        cells = [short(float(np.nanmean(score[mask]))) for score in both.values()]
        for name in rivals if OURS in found else []:
            shared = mask & np.isfinite(both[OURS]) & np.isfinite(both[name])
            ratio = ratio_interval(both[OURS][shared], both[name][shared], list(groups[shared]))
            cells.append(with_ends(*ratio))
            ratios_of[name].append(ratio[0])
        sheet.add(domain, str(mask.sum()), *cells)
    if ratios:
        sheet.add(EVENLY, "", *[""] * len(found), *(share(evenly(r[:-1])) for r in ratios_of.values()))
    return sheet


def least_score(errors: Sequence[np.ndarray], level: float) -> float:
    """The least mean interval score that one half width gives to all of these curves' absolute log errors."""
    halves = np.unique(np.quantile(np.concatenate(errors), np.linspace(0, 1, 400)))
    means = [np.mean(np.maximum(e - halves[:, None], 0), axis=1) for e in errors]
    return float((2 * halves + 2 / (1 - level) * np.mean(means, axis=0)).min())


def attainable(
    curves: Sequence[Curve], said: Sequence[Timed], found: dict[str, dict[float, np.ndarray]], horizon: float
) -> Sheet:
    """The interval scores that our medians allow, beside those reached, mean of both levels."""
    off = [np.abs(np.log(t.median / c.y_far)) for t, c in zip(said, curves, strict=True)]
    columns = ["domain", "curves", *found, "one width a domain", "one width a curve"]
    sheet = Sheet(f"{horizon:g}x: least interval score about our medians, widths in hindsight", columns)
    for domain, mask in domains_of(curves).items():
        reached = [np.mean([by_level[level][2, mask] for level in LEVELS]) for by_level in found.values()]
        chosen = [error for error, of in zip(off, mask, strict=True) if of]
        together = np.mean([least_score(chosen, level) for level in LEVELS])
        alone = np.mean([least_score([error], level) for error in chosen for level in LEVELS])
        if domain == "all":
            together = np.nan
        told = ["" if np.isnan(v) else short(float(v)) for v in (*reached, together, alone)]
        sheet.add(domain, str(mask.sum()), *told)
    return sheet


def main() -> None:
    """Prints coverage, width and interval score, one set of tables for each horizon."""
    options = parse(__doc__, DEFAULT)
    for horizon, curves in options.curves():
        said = answers(options.methods, curves)
        found = {name: measured(told, curves) for name, told in said.items()}
        covered(curves, found, horizon).show(markdown=options.markdown)
        scored(curves, found, horizon).show(markdown=options.markdown)
        if options.attainable and OURS in said:
            attainable(curves, said[OURS], found, horizon).show(markdown=options.markdown)


if __name__ == "__main__":
    main()
