"""The study of named neighbours, on the published curves."""

import sys
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
import neighbours_study
from foretrain.error_sources import Verdict


@pytest.fixture
def gadre(published_curves):
    return neighbours_study.read(published_curves / "gadre2024" / "runs.csv")


def text(show, *args):
    out = StringIO()
    show(*args, Console(file=out, width=200))
    return out.getvalue()


def test_what_is_foretold_of_large_models_is_beside_what_came(gadre, monkeypatch):
    monkeypatch.setattr(neighbours_study, "LOSSES", {"C4": "loss_c4_val"})
    told = neighbours_study.downstream(gadre)
    assert set(told) == {("C4", "17 tasks"), ("C4", "46 tasks")}
    shown = text(neighbours_study.show_downstream, gadre, told)
    large = gadre["N"] > 1e9
    for value in gadre["err_avg17"][large]:
        assert f"{value:.3f}" in shown
    for one, name in ((told["C4", tasks], name) for tasks, name in neighbours_study.METRICS.items()):
        came = gadre[name][large]
        assert ((one.lower[0.9] <= came) & (came <= one.upper[0.9])).all()


def test_burdens_are_told_with_their_warning(gadre):
    shown = " ".join(text(neighbours_study.show_burdens, gadre).split())
    assert shown.count("This is a cross-section") == 3
    slope = np.polyfit(np.log(gadre["flops_6ND"]), np.log(gadre["loss_c4_val"]), 1)[0]
    assert f"Loss on C4: Half the error takes {2 ** (-1 / slope):.3g} times the compute" in shown


def test_tasks_on_other_images_have_other_exponents(published_curves):
    encoders = neighbours_study.read_tasks(published_curves / "alabdulmohsin2022" / "learning_curves.csv")
    assert len(encoders) == 6 and {len(tasks) for tasks in encoders.values()} == {6}
    first, last, laws = neighbours_study.task_laws(encoders["BiT/50/1"])
    assert last == pytest.approx(10 * first) and not laws.is_shared
    birds = [one.median for task, one in zip(laws.tasks, laws.exponents, strict=True) if "bird" in task]
    others = [one.median for task, one in zip(laws.tasks, laws.exponents, strict=True) if "bird" not in task]
    assert min(birds) > 2 * max(others)
    assert "BiT/50/1" in text(neighbours_study.show_tasks, {"BiT/50/1": encoders["BiT/50/1"]})


def test_a_perceptron_learns_faster_than_any_power_law_from_hard_examples(monkeypatch):
    pytest.importorskip("sklearn")
    monkeypatch.setattr(neighbours_study, "SEEDS", 2)
    none, hard = neighbours_study.perceptrons()
    assert (none.speed.verdict, hard.speed.verdict) == (Verdict.POWER_LAW, Verdict.FASTER)
    assert hard.worth.lower > 10
    assert "faster_than_power_law" in text(neighbours_study.show_policies, "title", (none, hard))


def test_hard_digits_teach_worse_where_they_are_few(published_curves, monkeypatch):
    pytest.importorskip("sklearn")
    for name, value in (("SHARDS", (64, 125, 250, 500)), ("PROBE", 500), ("COUNTED", 800)):
        monkeypatch.setattr(neighbours_study, name, value)
    none, easy, hard = neighbours_study.digits(published_curves / "usps" / "usps_uint8.npz")
    assert [one.policy for one in (none, easy, hard)] == ["none", "easiest", "hardest"]
    assert (hard.error > none.error).all() and (easy.error > none.error).all()
    assert hard.worth.upper < 1
