"""Pictures of the Scaling tab: starts TensorBoard on a log directory and photographs the tab in Chromium.

    python docs/screenshots.py LOGDIR OUT            # a directory with runs that foretrain watched
    python docs/screenshots.py --demo LOGDIR OUT     # writes six synthetic runs into LOGDIR first

Needs `foretrain[tensorboard]`, torch, Playwright and a Chromium (`--chromium PATH`, or Playwright's own).
"""

from __future__ import annotations

import argparse
import math
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from foretrain.flags import Flag, FlagKind
from foretrain.report import Band, History, LawFit, LeftOutPoint, NamedProjection, PastForecast, Report

CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SIZES = (15_200, 41_300, 88_700, 203_000, 392_000, 697_000)
FLAGGED = 392_000
PLANNED = 100_000.0
BATCH, TOKENS, EPOCH = 16, 64, 20_000  # samples of a step, tokens of a sample, samples of an epoch
RATE = 3e-3
# The chart, the table of flags, or a sentence in their place.
DRAWN = ".chart svg .points, .flags-table:not([hidden]) :is(table, h2), .state:not([hidden]) h2"


def error_of(params: float, data: float) -> float:
    """The synthetic law: irreducible error, a term of model size and a term of data, in nats."""
    return 1.05 + 6.5 * params**-0.28 + 22.0 * data**-0.42


def demo_report(params: int, *, seen: float = 50_000.0, study: str = "bytes", points: int = 22) -> Report:
    """A report as foretrain would write one for a byte-level language model, with known truth.

    Args:
        params: Trainable parameters.
        seen: Training examples seen so far.
        study: Name of the study.
        points: How many validations.
    """
    noise = random.Random(params)
    name = f"bytes-n{round(params / 1000)}k/version_0"
    xs = [1600.0 * (seen / 1600.0) ** (i / (points - 1)) for i in range(points)]
    lift = [0.35 * min(1.0, max(0.0, (x - 9000) / 15_000)) if params == FLAGGED else 0.0 for x in xs]
    ys = [error_of(params, x) * math.exp(noise.gauss(0, 0.004)) + up for x, up in zip(xs, lift, strict=True)]
    off = noise.gauss(0, 0.01)

    def median(x: float) -> float:
        return error_of(params, x) * math.exp(off * math.log1p(x / seen)) + 0.5 * lift[-1]

    def width(x: float) -> float:
        return 0.008 + 0.02 * math.log(max(1.0, x / seen)) ** 1.2

    grid = [xs[0] * (1000 * seen / xs[0]) ** (i / 119) for i in range(120)]
    curve = Band(
        x=tuple(grid),
        median=tuple(median(x) for x in grid),
        lower={"0.9": tuple(median(x) * math.exp(-width(x)) for x in grid)},
        upper={"0.9": tuple(median(x) * math.exp(1.15 * width(x)) for x in grid)},
    )
    projections = tuple(
        NamedProjection(
            name=label,
            params=float(params),
            data=x,
            median=median(x),
            lower={"0.9": median(x) * math.exp(-width(x))},
            upper={"0.9": median(x) * math.exp(1.15 * width(x))},
            doubts=("100 times beyond the last point: the law's form is all that speaks for it.",)
            if label == "100x"
            else (),
        )
        for label, x in (
            ("planned end", PLANNED),
            ("2x", 2 * seen),
            ("10x", 10 * seen),
            ("100x", 100 * seen),
        )
        if label != "planned end" or seen < PLANNED
    )
    flags = ()
    if params == FLAGGED:
        flags = (
            Flag(
                kind=FlagKind.ABOVE_FAMILY,
                step=1100,
                message=f"val_loss {ys[-1]:.3f} at step 1100 lies above 1.43 to 1.51, where the other runs "
                "put a model of this size.",
                evidence={"value": ys[-1], "predicted": 1.47, "upper": 1.51},
            ),
        )
    few = seen < 5000
    return Report(
        run=name,
        metric="val_loss",
        axis="samples",
        step=int(seen / 16),
        study=study,
        state="running" if seen < PLANNED else "finished",
        params=float(params),
        planned=PLANNED,
        conventions={"params": "trainable", "samples": "with repeats"},
        points=tuple(zip(xs, ys, strict=True)),
        excluded={"not finite": 2, "counted by other conventions": 1},
        history=demo_history(params, xs),
        status="too_few_points" if few else "ok",
        sentence="22 points over half a decade cannot fix a law: wait for more data." if few else "",
        fits=(
            LawFit("power_law_with_floor", {"E": 1.2, "A": 22.0, "alpha": 0.42}, weight=0.81),
            LawFit("power_law", {"A": 4.1, "alpha": 0.11}, weight=0.19),
        ),
        curve=None if few else curve,
        projections=() if few else projections,
        track=tuple(
            PastForecast(share, y, {"0.9": 0.97 * y}, {"0.9": 1.03 * y}, ys[-1])
            for share, y in ((0.2, 1.02 * ys[-1]), (0.3, 0.99 * ys[-1]), (0.5, 1.01 * ys[-1]), (0.75, ys[-1]))
        )
        if seen >= PLANNED
        else (),
        doubts=("The learning rate has not decayed yet: the end of the schedule usually lies lower.",),
        flags=flags,
    )


def demo_history(params: int, xs: list[float]) -> History:
    """What stands beside the points: a learning rate that warms up, stays and will fall at the end.

    Args:
        params: Trainable parameters.
        xs: Training examples seen at the points.
    """
    planned, warm = int(PLANNED / BATCH), 40
    return History(
        counts={
            "steps": tuple(round(x / BATCH) for x in xs),
            "epochs": tuple(x / EPOCH for x in xs),
            "tokens": tuple(round(x * TOKENS) for x in xs),
            "unique_samples": tuple(round(min(x, EPOCH)) for x in xs),
            "flops": tuple(round(6 * params * x * TOKENS) for x in xs),
        },
        rates=tuple(RATE for _ in xs),
        schedule=((1, RATE / warm), (warm, RATE), (int(0.8 * planned), RATE), (planned, 0.1 * RATE)),
        planned={"samples": PLANNED, "steps": planned, "tokens": PLANNED * TOKENS, "epochs": PLANNED / EPOCH},
        left_out=(
            LeftOutPoint(0, None, math.nan, "not finite"),
            LeftOutPoint(60, 960.0, error_of(params, 960.0), "counted by other conventions"),
            LeftOutPoint(90, 1440.0, math.nan, "not finite"),
        ),
    )


def end_forecasts(report: Report) -> list[tuple[int, dict[str, float]]]:
    """What a monitor would have logged of the run's end: step, and scalars by name.

    Args:
        report: The run's newest report.
    """
    end = next((item for item in report.projections if item.name == "planned end"), None)
    if end is None:
        return []
    noise = random.Random(report.params)
    told = []
    for x, _ in report.points[6::2]:
        wide = 0.02 * math.log(PLANNED / x) ** 1.1
        median = end.median * math.exp(noise.gauss(0, 0.3) * wide)
        values = {"": median, "_lower": median * math.exp(-wide), "_upper": median * math.exp(wide)}
        scalars = {f"scaling/projected_end{part}": value for part, value in values.items()}
        told.append((round(x / BATCH), {**scalars, "scaling/samples": x}))
    return told


def write_demo(logdir: Path) -> None:
    """Writes the six synthetic runs as foretrain's callback would."""
    from torch.utils.tensorboard import SummaryWriter  # noqa: TID251

    from foretrain.tensorboard.summary import write_report

    for params in SIZES:
        report = demo_report(params)
        writer = SummaryWriter(str(logdir / report.run))
        for step, scalars in end_forecasts(report):
            for name, value in scalars.items():
                writer.add_scalar(name, value, step)
        write_report(writer, report, report.step)
        writer.close()


@contextmanager
def tensorboard_url(logdir: Path) -> Iterator[str]:
    """Serves a log directory for as long as it is asked for."""
    from tensorboard import program  # noqa: TID251

    server = program.TensorBoard()
    server.configure(argv=["tensorboard", "--logdir", str(logdir), "--port", "0"])
    yield server.launch()


def open_tab(page: Any, url: str, link: str = "") -> Any:
    """Opens the tab on a browser's page, waits until it is drawn, and returns the tab's frame.

    Args:
        page: Playwright's page.
        url: TensorBoard's address.
        link: What follows the tab's name in the address: "&p.foretrain.view=run".
    """
    page.goto(f"{url}#foretrain{link}")
    found: list[Any] = []
    while not found:
        page.wait_for_timeout(50)
        found = [frame for frame in page.frames if "plugin_entry" in frame.url]
    found[0].wait_for_selector(DRAWN, state="attached")
    return found[0]


def main() -> None:
    """Writes the pictures."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description="Photographs the Scaling tab.")
    parser.add_argument("logdir", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--demo", action="store_true", help="write six synthetic runs into LOGDIR first")
    parser.add_argument("--chromium", default=shutil.which("chromium"), help="path of Chromium")
    args = parser.parse_args()
    if args.demo:
        write_demo(args.logdir)
    args.out.mkdir(parents=True, exist_ok=True)
    views = {"data": "curves", **{name: name for name in ("size", "frontier", "run", "flags")}}
    shots = {f"tab-{name}": (1440, 1180, False, view) for name, view in views.items()}
    shots |= {f"tab-{name}-dark": (1440, 1180, True, view) for name, view in views.items()}
    shots |= {f"tab-{name}-narrow": (420, 1900, False, view) for name, view in views.items()}
    with tensorboard_url(args.logdir) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=args.chromium, args=CHROMIUM_FLAGS)
        for name, (width, height, dark, view) in shots.items():
            scheme = "dark" if dark else "light"
            page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
            frame = open_tab(page, url, f"&p.foretrain.view={view}")
            frame.wait_for_function("!document.querySelector('[aria-busy=true]')")
            page.wait_for_timeout(800)  # answers that are asked for once the first are there
            page.screenshot(path=str(args.out / f"{name}.png"))
            page.close()
        browser.close()


if __name__ == "__main__":
    main()
