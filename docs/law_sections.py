"""What the site adds to each law's section from the law itself: its parameters as a table, and a picture.

MkDocs calls the functions named `on_...`. Sections are found by their headings, which are the laws' names; so
what is printed is what the code does, and a law without an example here fails the build.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from mkdocs.structure.files import File

from foretrain.laws import LAWS, Law
from foretrain.laws.scheduled import MultiPowerLaw

SCHEMES = {"light": ("#1f2430", "#3f51b5", "#8a93a6"), "dark": ("#d5d9e2", "#9fb0ff", "#808a9f")}
"""Colours of text, of the law and of its variants, in Material's two schemes; no colour twice in one."""


@dataclass(frozen=True)
class Example:
    """A law to be drawn.

    Attributes:
        theta: Its parameters, in their order.
        low: Smallest x.
        high: Largest x.
        vary: Name of what the thin lines change: a parameter, or one of the axes.
        values: Its values there; of an axis all lines are as thick.
    """

    theta: tuple[float, ...]
    low: float
    high: float
    vary: str
    values: tuple[float, ...]


EXAMPLES = {
    "power": Example((5.0, 0.3), 1e2, 1e7, "alpha", (0.2, 0.4)),
    "power_floor": Example((0.3, 30.0, 0.4), 1e2, 1e7, "E", (0.1, 0.6)),
    "shifted_power_floor": Example((0.1, 30.0, 0.4, 800.0), 1e1, 1e7, "x0", (100.0, 6400.0)),
    "m3": Example((5.0, 0.3, 2e-5), 1e2, 1e7, "gamma", (2e-6, 2e-4)),
    "m4": Example((0.1, 0.8, 188.0, 0.7, 0.6), 1e1, 1e7, "alpha", (0.2, 1.5)),
    "broken_power_1": Example((0.05, 8.0, 0.1, 0.4, 5e3, 0.5), 1e1, 1e7, "c1", (0.0, 0.8)),
    "broken_power_2": Example((0.1, 4.0, 0.35, -0.7, 1e3, 0.3, 0.9, 3e4, 0.3), 1e1, 1e7, "c1", (-0.5, -0.3)),
    "exponential": Example((0.3, 1.2, 1e-5), 1e2, 1e7, "k", (1e-6, 1e-4)),
    "inverse_log": Example((0.2, 3.0, 50.0), 1e2, 1e7, "x0", (5.0, 500.0)),
    "chinchilla": Example((1.7, 400.0, 400.0, 0.34, 0.28), 1e8, 1e12, "N", (1e7, 1e8, 1e9, 1e10)),
    "gadre": Example((1.8, 50.0, 90.0, 0.13), 1e8, 1e12, "N", (1e7, 1e8, 1e9, 1e10)),
    "kaplan": Example((6.4e13, 1.8e13, 0.076, 0.103), 1e8, 1e12, "N", (1e7, 1e8, 1e9, 1e10)),
    "rosenfeld": Example((0.9, 3.0, 1e-4, 5e-3, 0.6, 0.5), 1e1, 1e6, "N", (1e4, 1e5, 1e6, 1e7)),
    "repeated_data": Example((1.87, 521.0, 1488.0, 0.35, 0.36, 15.4, 5.3), 1e8, 1e11, "U", (1e8, 4e8, 3e9)),
    "lovelace": Example((1.9, 400.0, 1500.0, 0.34, 0.36, 1e-3, 0.9, 0.8), 1e8, 1e11, "U", (1e8, 4e8, 3e9)),
    "memorization": Example(
        (2.0, 10.8, 600.0, 3000.0, 0.36, 0.4, 1.4, 20.0), 1e8, 1e11, "U", (1e8, 4e8, 3e9)
    ),
    "pruning": Example((0.06, 12.0, 0.8, 0.004), 1e-4, 1.0, "gamma", (0.4, 1.6)),
    "model_growth": Example((100.0, 0.68), 1e3, 1e7, "beta_p", (0.5, 1.0)),
    "annealing": Example((2.6, 0.6, 0.13, 0.45), 0.5, 50.0, "h", (1.0, 0.7, 0.4, 0.1)),
}
STYLES = ("--", ":", "-.", "-")
MULTI_POWER = np.array([2.6514477, 0.60115152, 0.45295811, 437.9464276, 2.13245612, 0.59785199, 0.65523644])
"""L0, A, alpha, B, C, beta and gamma of the multi-power law as published for 100M parameters."""
AT = {"N": 1e8}
"""Where an axis stands that is neither drawn along nor varied."""


def on_files(files: Any, config: Any) -> Any:
    """Adds the pictures, one for each scheme."""
    if missing := set(LAWS) - set(EXAMPLES):
        raise ValueError(
            f"Expected an example in docs/law_sections.py for every law, got none for {missing}."
        )
    pictures = {name: draw(LAWS[name], EXAMPLES[name]) for name in LAWS} | {"scheduled": draw_schedules()}
    for name, picture in pictures.items():
        for scheme, colours in SCHEMES.items():
            for drawn, shown in zip(SCHEMES["light"], colours, strict=True):
                picture = picture.replace(drawn, shown)
            files.append(File.generated(config, f"laws/pictures/{name}-{scheme}.svg", content=picture))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Adds its table and its picture to each section that is headed by a law's name."""
    if not page.file.src_uri.startswith("laws/"):
        return markdown
    head, *sections = re.split(r"(?m)^(?=## )", markdown)
    return head + "".join(section + added(section) for section in sections)


def added(section: str) -> str:
    """What the site adds to a section; nothing where it is not a law's."""
    name = section.partition("\n")[0].removeprefix("## ").strip()
    if name == "Annealing laws":
        return shown(
            "scheduled",
            "The multi-power law with its authors' constants of 100M parameters (Luo et al. 2025)",
        )
    if name not in LAWS:
        return ""
    law = LAWS[name]
    rows = "\n".join(
        f"| `{p.name}` | {p.meaning} | {p.unit} | {bounds(p.lower, p.upper)} |" for p in law.parameters
    )
    axes = "; ".join(
        f"`{a.name}` is {a.meaning}, {'without a unit' if a.unit == 'none' else f'in {a.unit}'}"
        for a in law.axes
    )
    return (
        f"\n{axes}. {rising(law)}\n\n| parameter | meaning | unit | bounds |\n|---|---|---|---|\n{rows}\n\n"
        f"{shown(name, caption(law))}Source: {law.source}.\n\n"
    )


def shown(name: str, told: str) -> str:
    """A picture in both schemes, and what it shows."""
    pictures = "\n".join(f"![{name}](pictures/{name}-{scheme}.svg#only-{scheme})" for scheme in SCHEMES)
    return f"\n{pictures}\n\n*{told}.*{{ .caption }}\n\n"


def bounds(lower: float, upper: float) -> str:
    """The range of a parameter, in words."""
    if not np.isfinite(upper):
        return "any" if not np.isfinite(lower) else f"from {lower:g}"
    return f"{lower:g} to {upper:g}"


def rising(law: Law) -> str:
    """Where the law can rise, as a sentence."""
    free = [axis.name for axis, way in zip(law.axes, law.monotone, strict=True) if way == 0]
    if free:
        return f"The error may rise along `{'`, `'.join(free)}`."
    if set(law.monotone) == {1}:
        return "It never falls."
    up = [axis.name for axis, way in zip(law.axes, law.monotone, strict=True) if way == 1]
    return "The error never rises." if not up else f"It never falls along `{'`, `'.join(up)}`."


def caption(law: Law) -> str:
    """What the picture shows, in words."""
    example = EXAMPLES[law.name]
    names = [parameter.name for parameter in law.parameters]
    theta = ", ".join(f"{name} = {value:g}" for name, value in zip(names, example.theta, strict=True))
    values = ", ".join(f"{value:g}" for value in example.values)
    held = "".join(
        f", at {a.name} = {AT[a.name]:g}" for a in law.axes if a.name in AT and a.name != example.vary
    )
    return (
        f"With {theta}{held}; {'thin lines' if example.vary in names else 'lines'}: {example.vary} = {values}"
    )


def draw(law: Law, example: Example) -> str:
    """A law on log axes, as SVG, in the colours of the light scheme."""
    _, strong, faint = SCHEMES["light"]
    names, axes = [p.name for p in law.parameters], [axis.name for axis in law.axes]
    along = "S" if "S" in axes else "D" if "D" in axes else axes[0]
    x = np.geomspace(example.low, example.high, 240)
    with canvas(f"{along}: {law.axes[axes.index(along)].meaning}", "log") as (axis, out):
        if example.vary in names:
            axis.plot(x, law.value(x[None], np.array(example.theta)), color=strong, lw=2.4)
        for style, value in zip(STYLES, example.values, strict=False):
            theta = np.array(example.theta)
            held = AT | {example.vary: value}
            if example.vary in names:
                theta[names.index(example.vary)] = value
            places = np.stack([x if one == along else np.full_like(x, held.get(one, 1.0)) for one in axes])
            if "U" in axes:
                places[axes.index("U")] = np.minimum(
                    x, value
                )  # before the first repeat all data are distinct
            colour = faint if example.vary in names else strong
            axis.plot(
                x, law.value(places, theta), style, color=colour, lw=1.4, label=f"{example.vary} = {value:g}"
            )
    return out.getvalue()


def draw_schedules() -> str:
    """The multi-power law under three schedules of one length, as SVG."""
    step = np.arange(1, 24_001)
    peak, low, at = 3e-4, 3e-5, np.arange(200, 24_001, 100)
    schedules = {
        "constant": np.full(step.size, peak),
        "cosine": low + (peak - low) * (1 + np.cos(np.pi * step / step.size)) / 2,
        "stable, then decay": np.where(step < 20_000, peak, peak * (low / peak) ** ((step - 20_000) / 4000)),
    }
    with canvas("optimizer steps", "linear") as (axis, out):
        for style, (name, rates) in zip(STYLES, schedules.items(), strict=False):
            loss = MultiPowerLaw().loss(rates, at, MULTI_POWER)
            axis.plot(at, loss, style, color=SCHEMES["light"][1], lw=1.4, label=name)
        axis.set_ylim(2.7, 3.4)
    return out.getvalue()


@contextmanager
def canvas(label: str, scale: str) -> Iterator[tuple[Axes, io.StringIO]]:
    """An axis to draw on; its SVG, with a legend, is in the buffer afterwards."""
    text, _, faint = SCHEMES["light"]
    style = {"svg.fonttype": "none", "svg.hashsalt": "foretrain", "font.size": 9, "text.color": text}
    out = io.StringIO()
    with rc_context(style | {"axes.edgecolor": faint, "axes.labelcolor": text}):
        figure = Figure(figsize=(5.6, 2.9), layout="constrained", facecolor="none")
        axis = figure.add_subplot(facecolor="none", xscale=scale, yscale=scale)
        yield axis, out
        axis.legend(frameon=False, loc="best", fontsize=8)
        axis.set_xlabel(label)
        axis.tick_params(which="both", colors=faint, labelcolor=text)
        axis.spines[["top", "right"]].set_visible(False)
        FigureCanvasSVG(figure).print_svg(out, metadata={"Date": None})
