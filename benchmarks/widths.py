"""Why `forecast`'s intervals are as wide as they are, and whether another width would be nearer.

    python benchmarks/widths.py --data FOLDER [--markdown]

The first table: by domain, what makes up the square of the scale (the noise of one measurement; past
forecasts; distance, with what stands in for past forecasts where there are few), how many times the error
that came half the 90 % interval is, and that error over what past forecasts missed by, carried to the same
distance: geometric means over curves, with 95 % intervals from the jackknife by groups of curves. "Missed
together" is the median over curves of the share of the squared errors that all points of a curve have in
common. The second table: the same for each curve of the domains that have few groups.

The third: other ways to learn the width from past forecasts, each with scales fitted without the domain (see
`choose.py`): interval scores over those of the way shipped, geometric means over both levels and three
horizons, 2x counting twice; and the coverage of the nominal 90 % at 2x.

The fourth: whether anything known at the cut tells on which curves the error will be smaller than past
forecasts missed by. The logarithm of that ratio, by ridge regression on the traits of a curve named below the
table: its mean square when it is told by the mean of the other curves, and when by the regression on them,
for other domains and, within a domain, for other groups.

The last: made-up power laws with floor and noise of the logarithm, where a law is told: how often a new
measurement twice as far lies inside the 90 % interval, with the scales shipped and with those that fit the
published curves best.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rich.progress import track

from choose import HORIZONS, Asked, Intervals, ask
from curves import load
from foretrain.forecasting import past_forecasts, uncertainty
from options import parse
from scores import EVENLY, Sheet, evenly, log_mean_interval, share, short, with_ends
from width_ways import OTHERS, PAST, left_out, look_back, relearned

MADE_OF = ("noise", "past", "distance")
FEW = 5
SMALLEST = 1e-4
"""Added to errors before their logarithm is taken."""
TAILS = (3.0, 10.0)
"""Other degrees of freedom of Student's t."""
RIDGE = 5.0
FOLDS = 5
DRAWS = 200
POINTS, NOISES = (5, 6, 8, 12, 20, 40), (0.005, 0.03, 0.1)


def others(asked: Sequence[Asked], *, markdown: bool) -> None:
    """The table of other ways."""
    found = {name: left_out([relearned(one, name) for one in asked]) for name in track(OTHERS, "ways")}
    shipped = uncertainty.DEGREES_OF_FREEDOM
    for freedom in TAILS:
        uncertainty.DEGREES_OF_FREEDOM = freedom
        found[f"t of {freedom:g} degrees of freedom"] = left_out(asked)
    uncertainty.DEGREES_OF_FREEDOM = shipped
    base = next(iter(found.values()))[0]
    sheet = Sheet("Other widths, scales fitted without the domain", ["way", *base, EVENLY])
    for name, (scored, held) in found.items():
        ratios = [float(np.exp(scored[domain] - base[domain])) for domain in base]
        told = [f"{share(r)} [{share(held[d])}]" for r, d in zip(ratios, base, strict=True)]
        sheet.add(name, *told, share(evenly(ratios)))
    sheet.show(markdown=markdown)


def over_past(one: Asked) -> float:
    """The error that came over what past forecasts missed by, carried to the same distance."""
    return _root(one.error) / _root(one.parts[PAST])


def _root(values: np.ndarray) -> float:
    return float(np.sqrt((values**2).mean())) + SMALLEST


def made_of(one: Asked) -> list[float]:
    """Shares of the squared scale: noise, past forecasts, distance."""
    squares = ((np.array(list(uncertainty.SCALES.values()))[:, None] * one.parts) ** 2).mean(axis=1)
    return [float(part.sum() / squares.sum()) for part in (squares[:3], squares[3:4], squares[4:])]


def half(one: Asked) -> float:
    """Half the 90 % interval over the error that came, both as root mean squares."""
    return uncertainty.quantile_factor(0.9) * _root(one.scale) / _root(one.error)


def together(one: Asked) -> float:
    """Share of the squared error that a curve's points have in common; nan for one point or no error."""
    if one.error.size < 2 or not one.error.any():
        return np.nan
    return float(one.error.mean() ** 2 / (one.error**2).mean())


def widths(asked: Sequence[Asked], *, markdown: bool) -> None:
    """The tables of what the width is made of, at 2x and for all horizons together."""
    columns = ["domain", "curves", "groups", *MADE_OF, "missed together"]
    columns += ["half width / error", "error / past misses"]
    for horizon in HORIZONS:
        sheet = Sheet(f"{horizon:g}x: shares of the squared scale, and how it met the errors", columns)
        for domain in dict.fromkeys(one.curve.domain for one in asked):
            mine = [one for one in asked if (one.horizon, one.curve.domain) == (horizon, domain)]
            if not mine:
                continue
            groups = [one.curve.group for one in mine]
            backed = [one for one in mine if one.model.n_scores > 0]
            common = [value for one in mine if np.isfinite(value := together(one))]
            sheet.add(
                domain,
                *(str(len(mine)), str(len(set(groups)))),
                *(share(float(v)) for v in np.mean([made_of(one) for one in mine], axis=0)),
                share(float(np.median(common))) if common else "-",
                with_ends(*log_mean_interval(np.array([half(one) for one in mine]), groups)),
                with_ends(
                    *log_mean_interval(
                        np.array([over_past(o) for o in backed]), [o.curve.group for o in backed]
                    )
                )
                if backed
                else "-",
            )
        sheet.show(markdown=markdown)


def each(asked: Sequence[Asked], *, markdown: bool) -> None:
    """The table of single curves at the first horizon."""
    near = [one for one in asked if one.horizon == HORIZONS[0]]
    columns = ["curve", "points", "held out", "error", "half width", *MADE_OF, "past misses"]
    sheet = Sheet(f"{HORIZONS[0]:g}x: the curves of domains of fewer than {FEW} groups", columns)
    for one in near:
        if len({other.curve.group for other in near if other.curve.domain == one.curve.domain}) >= FEW:
            continue
        past = [short(back.missed) for back in look_back(one, past_forecasts.ORIGINS)]
        sheet.add(
            f"{one.curve.domain}: {one.curve.name}",
            *(str(one.curve.x.size), str(np.unique(one.curve.x_far).size)),
            *(short(_root(one.error)), short(uncertainty.quantile_factor(0.9) * _root(one.scale))),
            *(share(v) for v in made_of(one)),
            " ".join(past),
        )
    sheet.show(markdown=markdown)


def traits(one: Asked) -> dict[str, float]:
    """What is known of a curve at the cut, in logarithms."""
    model, missed = one.model, [back.missed + 1e-5 for back in look_back(one, past_forecasts.ORIGINS)]
    assert model.average is not None
    spread, scale = _root(model.average.moments(one.z)[1]), _root(one.parts[PAST])
    return {
        "points": np.log(one.curve.x.size),
        "range of x": np.log(one.curve.x[-1] / one.curve.x[0]),
        "misses": np.log(scale),
        "latest miss over all": np.log(missed[0] / model.past),
        "how misses differ": float(np.std(np.log(missed))),
        "spread of the shapes": np.log(spread / scale),
        "residuals": np.log((model.noise[0] + SMALLEST) / scale),
        "noise from point to point": np.log((model.noise[1] + SMALLEST) / scale),
        "slope": np.log(model.slope + 1e-3),
    }


def told_by_traits(asked: Sequence[Asked], *, markdown: bool) -> None:
    """The table of the regressions."""
    backed = [one for one in asked if one.model.n_scores > 1]
    known = [traits(one) for one in backed]
    y = np.log([over_past(one) for one in backed])
    design = np.array([list(row.values()) for row in known])
    design = (design - design.mean(axis=0)) / design.std(axis=0)
    design = np.column_stack([design, *([one.horizon == h for one in backed] for h in HORIZONS[1:])])
    domain = np.array([one.curve.domain for one in backed])

    def squares(fit: np.ndarray, of: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        centre, mean = design[fit].mean(axis=0), y[fit].mean()
        x = design[fit] - centre
        slopes = np.linalg.solve(x.T @ x + RIDGE * np.eye(x.shape[1]), x.T @ (y[fit] - mean))
        return (y[of] - mean) ** 2, (y[of] - mean - (design[of] - centre) @ slopes) ** 2

    sheet = Sheet(
        "ln(error / past misses): mean square about what other curves tell",
        [
            "domain",
            "curves, all horizons",
            "others: mean",
            "others: traits",
            "within: mean",
            "within: traits",
        ],
    )
    for name in dict.fromkeys(domain.tolist()):
        mine = domain == name
        cells = [share(float(v.mean())) for v in squares(~mine, mine)]
        groups = np.unique([one.curve.group for one in backed if one.curve.domain == name])
        if groups.size < 2 * FOLDS:
            cells += ["-", "-"]
        else:
            drawn = np.random.default_rng(0).permutation(groups.size) % FOLDS
            fold = dict(zip(groups.tolist(), drawn.tolist(), strict=True))
            at = np.array([fold.get(one.curve.group, -1) for one in backed])
            parts = [squares(mine & (at != k), mine & (at == k)) for k in range(FOLDS)]
            cells += [share(float(np.concatenate(v).mean())) for v in zip(*parts, strict=True)]
        sheet.add(name, str(mine.sum()), *cells)
    sheet.show(markdown=markdown)
    print(f"\nTraits: {', '.join(known[0])}; the horizon")


def made_up(asked: Sequence[Asked], *, markdown: bool) -> None:
    """The table of noisy power laws with floor, with the scales shipped and with those fitted to `asked`."""
    rng = np.random.default_rng(0)
    shipped = np.array(list(uncertainty.SCALES.values()))
    intervals = Intervals(asked)
    both = shipped, intervals.fit(np.ones(len(intervals.cells)))
    sheet = Sheet(
        "Made-up power laws with floor: coverage of a new measurement at 2x, nominal 90 %",
        ["points", *(f"noise {noise:g}: {who}" for noise in NOISES for who in ("shipped", "fitted"))],
    )
    for points in POINTS:
        cells = []
        for noise in NOISES:
            inside = []
            for _ in range(DRAWS):
                alpha, floor = rng.uniform(0.1, 0.8), rng.uniform(0, 0.8)
                x = np.geomspace(1 / rng.choice([8, 30, 100]), 1, points)
                log_y = np.log(floor + (1 - floor) * np.append(x, 2.0) ** -alpha)
                log_y = log_y + noise * rng.normal(size=points + 1)
                model = uncertainty.model_curve(x, np.exp(log_y[:-1]))
                if model.average is None:
                    continue
                mean, parts = model.scale_parts(np.array([2.0]))
                widths = [uncertainty.quantile_factor(0.9) * np.sqrt(s**2 @ parts**2) for s in both]
                inside.append([abs(log_y[-1] - mean[0]) <= width[0] for width in widths])
            cells += [share(float(v)) for v in np.mean(inside, axis=0)]
        sheet.add(str(points), *cells)
    sheet.show(markdown=markdown)


def main() -> None:
    """Prints the tables."""
    options = parse(__doc__, ("foretrain",))
    asked = ask([(h, c) for h in HORIZONS for c in load(options.data, h, options.sets)])
    widths(asked, markdown=options.markdown)
    each(asked, markdown=options.markdown)
    told_by_traits(asked, markdown=options.markdown)
    others(asked, markdown=options.markdown)
    made_up(asked, markdown=options.markdown)


if __name__ == "__main__":
    main()
