"""The report's part on model size and compute: what is drawn, and the sentence where it cannot be."""

import re
from dataclasses import replace

import numpy as np
import pytest

from foretrain.cli import main
from foretrain.cli.figures_study import draw_study, isoflop, law_residuals, missing
from foretrain.cli.page_study import study_section
from foretrain.decisions import from_study
from test_cli_plan_runs import keep
from test_decisions_study import BATCH, SIZES, law, run, study

pytest.importorskip("matplotlib")
PICTURES = ("slices", "frontier", "isoflop", "law_residuals")


@pytest.fixture(scope="module")
def known():
    """Six sizes at equal compute, so that each budget has a best size."""
    sizes = np.geomspace(1e5, 3e6, 6)
    runs = [run(f"n{n:.0e}-{c:.0e}", n, round(c / 6 / n / BATCH)) for n in sizes for c in (2e11, 8e11, 3e12)]
    return from_study(study(*runs), "val_loss")


def test_all_that_is_identified_is_drawn(known):
    assert missing(*known) == {}
    figures = draw_study(*known)
    assert tuple(figures) == PICTURES
    legend = [text.get_text() for text in figures["frontier"].axes[0].get_legend().get_texts()]
    assert legend == [
        "all points",
        "no other reached its error with less compute",
        "compute-optimal, by the joint law",
        "best of equal compute",
    ]


def test_the_line_of_the_frontier_is_the_closed_form(known):
    axes = draw_study(*known)["frontier"].axes[0]
    (line,) = [line for line in axes.lines if line.get_label().startswith("compute-optimal")]
    compute, size = line.get_data()
    truth = (0.4 * 60 / (0.46 * 90)) ** (1 / 0.86) * (compute / 6) ** (0.46 / 0.86)
    assert np.abs(np.log(size / truth)).max() < 0.3
    corners = axes.collections[0].get_paths()[0].vertices
    for c, n in zip(compute, truth, strict=True):
        ends = corners[np.isclose(corners[:, 0], c, rtol=1e-9), 1]
        assert ends.min() < n < ends.max()


def test_equal_compute_is_read_off_the_runs(known):
    _, points = known
    found = isoflop(points)
    assert found.budgets == pytest.approx([2e11, 8e11, 3e12], rel=0.01)  # those that were given on purpose
    for budget, sizes, losses in zip(found.budgets, found.sizes, found.losses, strict=True):
        assert losses == pytest.approx(law(sizes, budget / 6 / sizes), rel=0.03)


def test_without_budgets_on_purpose_equal_compute_is_interpolated():
    sizes, steps = np.geomspace(1e5, 3e6, 6), (300, 3000, 30000)
    _, points = from_study(study(*(run(f"n{n:.0e}-{k}", n, k) for n in sizes for k in steps)), "val_loss")
    found = isoflop(points)
    assert 3 <= found.budgets.size <= 6 and (np.diff(np.log(found.budgets)) > 0.1).all()


def test_residuals_are_those_of_the_law_that_made_the_points(known):
    off = law_residuals(*known)
    assert off.shape == known[1].y.shape
    assert off.std() < 0.01 and abs(np.median(off)) < 0.005
    planner, points = known
    raised = law_residuals(planner, replace(points, y=1.1 * points.y))
    assert raised - off == pytest.approx(np.full(18, np.log(1.1)))


def test_two_sizes_get_a_sentence_instead_of_a_picture(tmp_path, capsys):
    for n in SIZES[:2]:
        keep(tmp_path, run(f"n{n:.0e}", n, 500))
    keep(tmp_path, run("<under-way>", 1e5, 4000, state="running", last=3000))
    assert main(["report", str(tmp_path), "--html", str(tmp_path / "r.html"), "--json"]) == 0
    text = (tmp_path / "r.html").read_text()
    part = text[text.index("<h3>Model size and compute</h3>") :]
    assert not re.search(f'<figure id="({"|".join(PICTURES)})"', text)
    assert part.count("Fewer than three model sizes do not identify a law of model size.") >= 3
    assert re.search(r"Run [\d.e+]+ parameters on [\d.e+]+ next", part)
    assert "No amount of compute was reached by 4 sizes: train 4 sizes" in part
    assert "&lt;under-way&gt;: it is running" in part


def test_a_study_without_a_run_that_can_enter_says_why(tmp_path, capsys):
    keep(tmp_path, run("r", state="running", last=500))
    assert main(["report", str(tmp_path), "--html", str(tmp_path / "r.html"), "--json"]) == 0
    text = (tmp_path / "r.html").read_text()
    assert "Cannot be told. Expected a run whose val_loss along samples can enter a joint law" in text


def test_the_section_tells_the_best_use_of_more_compute(known):
    planner, points = known
    text = study_section(planner, points, dict.fromkeys(PICTURES, b"<svg/>"))
    n, d = points.largest
    best = planner.optimum(10 * points.per * n * d)
    assert f"<td>{best.size.median:.3g}</td>" in text and f"<td>{float(best.loss.median):.4g}</td>" in text
    assert "More data or a bigger model at" in text and "To know more: Run " in text
    assert all(f'<figure id="{name}">' in text for name in PICTURES)
