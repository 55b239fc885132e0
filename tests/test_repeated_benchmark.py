"""The arithmetic of the benchmark of repeated data: cells, groups, what rose, and the published law."""

import csv
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = str(Path(__file__).parents[1] / "benchmarks")
sys.path.insert(0, BENCHMARKS)
try:
    import repeated
    import upturns
finally:
    sys.path.remove(BENCHMARKS)

HEADER = ("N", "D_tokens", "U_unique_tokens", "dedup", "val_loss")


@pytest.fixture
def folder(tmp_path):
    """Five sizes at two amounts of unique data and six lengths, one cell twice, and what must be left out."""
    rows = []
    for n in np.geomspace(1e7, 1e9, 5):
        for u in (1e8, 1e9):
            for epochs in (1, 2, 4, 8, 40, 200):
                excess = 5e4 / n**0.65 + 1e5 / (u * epochs) ** 0.55 + 1e-3 * n / u * epochs
                rows.append((n, u * epochs, u, 0, 2.2 + excess))
    rows.append((*rows[0][:4], rows[0][4] * 1.21))
    rows += [(1e7, 1e8, 1e8, 1, 3.0), (1e7, 1e8, 1e8, 0, "")]
    path = tmp_path / "datablations" / "data_constrained_runs.csv"
    path.parent.mkdir()
    with path.open("w") as file:
        csv.writer(file).writerows([HEADER, *rows])
    return tmp_path


def test_only_runs_of_one_selection_with_a_loss_are_read(folder):
    assert repeated.load(folder, dedup="0").y.size == 61
    assert repeated.load(folder, dedup="1").y.tolist() == [3.0]
    with pytest.raises(SystemExit, match=r"Expected .*data_constrained_runs\.csv: give --data, or set"):
        repeated.load(folder / "none", dedup="0")


def test_runs_alike_are_one_cell_at_their_geometric_mean(folder):
    runs = repeated.load(folder, dedup="0")
    cells = runs.cells()
    assert cells.y.size == 60
    same = (cells.x == runs.x[:, :1]).all(axis=0)
    assert cells.y[same] == pytest.approx(runs.y[0] * 1.1)


def test_the_published_law():
    """By hand, for one run within its optimal size, and one far above it with repeats."""
    tied = repeated.TIED
    n, d = np.array([1e7, 1e10]), np.array([1e11, 1e9])
    u = np.array([1e11, 1e8])
    whole = tied["E"] + tied["A"] / 1e7**0.3526596 + tied["B"] / 1e11**0.3526596
    optimum = 1e8 * (tied["A"] / tied["B"]) ** (1 / 0.3526596)
    size = optimum + optimum * 5.309743 * (1 - np.exp(-(1e10 / optimum - 1) / 5.309743))
    data = 1e8 + 1e8 * 15.387756 * (1 - np.exp(-9 / 15.387756))
    over = tied["E"] + tied["A"] / size**0.3526596 + tied["B"] / data**0.3526596
    np.testing.assert_allclose(repeated.published(np.stack([n, d, u])), [whole, over], rtol=1e-9)
    plain = repeated.published(np.stack([n, d, u]), effective=False)
    assert plain[0] == pytest.approx(whole)
    assert plain[1] == pytest.approx(tied["E"] + tied["A"] / 1e10**0.3526596 + tied["B"] / 1e9**0.3526596)


def test_the_readme_figure_is_chinchilla_with_exponents_apart(published_curves):
    """Muennighoff's constants leave .136 on the runs of at most four epochs, without effective amounts."""
    if not (published_curves / "datablations").is_dir():
        pytest.skip(f"no datablations in {published_curves}")
    runs = repeated.load(published_curves, dedup="0")
    few = runs.take(runs.epochs <= 4)
    predicted = repeated.published(few.x, repeated.UNTIED, effective=False)
    assert np.sqrt(np.mean(np.log(predicted / few.y) ** 2)) == pytest.approx(0.136, abs=5e-4)


def test_what_rose_is_above_the_best_shorter_run_of_the_same_cell():
    x = np.array([[1e8] * 4, [1e8, 4e8, 8e8, 4e8], [1e8, 1e8, 1e8, 2e8]])
    runs = repeated.Runs(x, np.array([3.0, 2.0, 2.5, 9.0]))
    assert repeated.rise(runs, x[:, 2], 2.5) == pytest.approx(0.5)
    assert repeated.rise(runs, x[:, 1], 2.0) == pytest.approx(-1.0)
    assert np.isnan(repeated.rise(runs, x[:, 3], 9.0))
    assert repeated.risen(runs, runs).tolist() == [False, False, True, False]
    assert not repeated.risen(runs, runs, margin=0.6).any()


@pytest.mark.parametrize("axis", [0, 2])
def test_a_group_is_never_forecast_from_its_own_longer_runs(folder, axis, monkeypatch):
    runs = repeated.load(folder, dedup="0")
    seen = []

    class Model:
        def forecast(self, *x, levels):
            seen[-1].append(np.stack(x))
            same = np.ones(x[0].size)
            return repeated.Forecast(same, {v: same for v in levels}, {v: same for v in levels}, "ok")

    def model_of(known):
        seen.append([known])
        return Model()

    monkeypatch.setattr(repeated, "model_of", model_of)
    answer = repeated.grouped(runs, axis)
    assert answer.median.shape == (30,)
    assert len(seen) == (5 if axis == 0 else 2)
    for known, asked in seen:
        (name,) = np.unique(asked[axis])
        assert (known.epochs[known.x[axis] == name] <= 4).all()
        assert (known.epochs > 4).any()


def test_every_table_can_be_printed(folder, capsys, monkeypatch):
    """One model stands for all, so that nothing is fitted twice."""
    runs, dedup = repeated.load(folder, dedup="0"), repeated.load(folder, dedup="1")
    model = repeated.model_of(repeated.known_to(runs))
    monkeypatch.setattr(repeated, "model_of", lambda known: model)
    monkeypatch.setattr(repeated, "by_law", lambda name, known, **fixed: repeated.nearest(known))
    monkeypatch.setattr(repeated, "fit", lambda *arguments, **fixed: model.fit)
    repeated.reference_table(runs, markdown=True)
    repeated.final_table(runs, dedup, markdown=True)
    repeated.overfit_table(runs, markdown=True)
    repeated.best_table(runs, markdown=True)
    told = capsys.readouterr().out
    assert told.count("\n| ---") == 4
    assert "| **model_repeated** |" in told and "nan" not in told


def test_curves_that_are_absent_are_named(tmp_path, capsys):
    upturns.published_table(tmp_path, markdown=True)
    assert capsys.readouterr().out.count("left out") == 2
