"""Reports as one HTML file that needs nothing else: no script, no font, no network."""

from __future__ import annotations

import base64
import html
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from foretrain.axes import AXES
from foretrain.cli.output import visible
from foretrain.report import Report

CAPTIONS = {
    "curves": "Every validation, and where each run is heading: median and 90 % interval.",
    "joint": "What the runs of several sizes say together, along the model size: median and 90 % interval.",
    "residuals": "How far each validation lies from the law: what is left should show no pattern.",
    "track": "What had been projected for the ends of finished runs, and what came.",
}
_STYLE = """
:root { color-scheme: light dark }
body { font: 15px/1.45 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .25rem .7rem; border-bottom: 1px solid #8884; text-align: right }
td { overflow-wrap: break-word; min-width: 4rem; max-width: 16rem }
th:first-child, td:first-child, th:nth-child(2), td:nth-child(2) { text-align: left }
h4 { margin-bottom: .2rem }
.wide { overflow-x: auto }
img { width: 100%; background: white; border-radius: 4px }
figure { margin: 1.5rem 0 }
figcaption, .small { color: #777; font-size: .9em }
"""
_HEAD = (
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
    "style-src 'unsafe-inline'\">"
)


@dataclass(frozen=True)
class Tables:
    """The tables of a study's runs.

    Attributes:
        columns: Of both.
        rows: The runs that were analyzed.
        others: The other ones; they are folded away.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    others: Sequence[Sequence[str]] = ()


def page(title: str, sections: Iterable[str]) -> str:
    """The whole file.

    Args:
        title: Its title, as text.
        sections: From `section`.
    """
    shown = _text(title)
    body = "\n".join(sections)
    head = f"{_HEAD}<title>{shown}</title><style>{_STYLE}</style></head>"
    return f"{head}\n<body><h1>{shown}</h1>\n{body}</body></html>\n"


def section(
    reports: Sequence[Report],
    tables: Tables,
    lines: Sequence[str],
    pictures: Mapping[str, bytes],
    sizes: str = "",
) -> str:
    """One study.

    Args:
        reports: Of its runs; at least one.
        tables: The tables of runs.
        lines: Sentences about all runs.
        pictures: SVG files by name.
        sizes: HTML on model size and compute, from `page_study.study_section`.
    """
    first = reports[0]
    parts = [
        f"<h2>Study {_text(first.study)}: {_text(first.metric)} against {_text(AXES[first.axis].unit)}</h2>",
        "<p>Projections are medians with 90 % intervals.</p>",
        table(tables.columns, tables.rows),
        *(paragraph(line) for line in lines if line),
        *(figure(name, picture, CAPTIONS[name]) for name, picture in pictures.items()),
        _joint(reports),
        sizes,
        "<h3>Doubts and flags</h3>",
        items(_doubts(reports)) or "<p>None.</p>",
        "<h3>How things were counted</h3>",
        items(_conventions(reports)),
        _others(tables),
    ]
    return "\n".join(part for part in parts if part)


def _others(tables: Tables) -> str:
    if not tables.others:
        return ""
    told = f"<summary>{len(tables.others):,} runs that were not analyzed by themselves</summary>"
    return f"<details>{told}\n{table(tables.columns, tables.others)}</details>"


def _text(value: object) -> str:
    return html.escape(visible(value, longest=2_000))


def paragraph(text: str) -> str:
    """A sentence or more."""
    return f"<p>{_text(text)}</p>"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of texts."""
    head = "".join(f"<th>{_text(column)}</th>" for column in columns)
    body = "\n".join("<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>'


def figure(name: str, picture: bytes, about: str) -> str:
    """An SVG file with its caption."""
    # As an image, in which nothing can run, and whose names cannot meet those of another one.
    data = base64.b64encode(picture).decode("ascii")
    caption = _text(about)
    return (
        f'<figure id="{_text(name)}"><img alt="{caption}" src="data:image/svg+xml;base64,{data}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def items(texts: Iterable[str]) -> str:
    """A list; nothing if it is empty."""
    told = "\n".join(f"<li>{_text(text)}</li>" for text in texts)
    return f"<ul>{told}</ul>" if told else ""


def _joint(reports: Sequence[Report]) -> str:
    """The joint law with the projections of larger models, once for each different one."""
    told: dict[str, None] = {}
    for joint in (report.joint for report in reports if report.joint is not None):
        law = (
            ""
            if joint.fit is None
            else f" {joint.fit.law}: "
            + ", ".join(f"{n} = {v:.4g}" for n, v in joint.fit.parameters.items())
            + "."
        )
        rows = [
            (
                p.name,
                "-" if p.params is None else f"{p.params:,.0f}",
                f"{p.median:.4g}",
                f"{p.lower['0.9']:.4g} to {p.upper['0.9']:.4g}",
            )
            for p in joint.projections
        ]
        projected = table(("model", "parameters", "projected", "90 % interval"), rows) if rows else ""
        of = f" Of {len(joint.runs)} runs." if joint.runs else ""
        told.setdefault(f"<p>{_text(joint.sentence + of + law)}</p>{projected}", None)
    return "<h3>All sizes together</h3>" + "\n".join(told) if told else ""


def _doubts(reports: Sequence[Report]) -> list[str]:
    flags = [f"{report.run}: {flag.message}" for report in reports for flag in report.flags]
    many = Counter(doubt for report in reports for doubt in (report.sentence, *report.doubts) if doubt)
    runs = {1: "one run"}
    return flags + [f"{doubt} ({runs.get(n, f'{n} runs')})" for doubt, n in many.most_common()]


def _conventions(reports: Sequence[Report]) -> list[str]:
    rules = Counter(
        ", ".join(
            f"{name}: {rule}" for name, rule in sorted(report.conventions.items()) if name != "imported"
        )
        for report in reports
    )
    return [f"{rule or 'not recorded'} ({n} of {len(reports)} runs)" for rule, n in rules.most_common()]
