"""The example study on digits, small."""

import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

EXAMPLES = str(Path(__file__).parent.parent / "examples")
sys.path.insert(0, EXAMPLES)
import hestness_study  # noqa: E402


def write_digits(folder):
    """A file of random digits that can be told apart, as the zip-code digits come; its path."""
    rng = np.random.default_rng(0)
    patterns = rng.integers(0, 256, (10, 16, 16))
    arrays = {}
    for name, count in (("train", 160), ("test", 40)):
        labels = np.arange(count) % 10
        noise = rng.normal(0, 90, (count, 16, 16))
        arrays[f"x_{name}"] = np.clip(patterns[labels] + noise, 0, 255).astype(np.uint8)
        arrays[f"y_{name}"] = labels.astype(np.uint8)
    path = folder / "zip.npz"
    np.savez(path, **arrays)
    return str(path)


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return write_digits(tmp_path_factory.mktemp("digits"))


def test_small_it_ends_in_laws_and_goes_on_where_it_was(tmp_path, digits):
    outcome, study = hestness_study.run(tmp_path, path=digits, small=True)
    assert outcome.complete and len(outcome.outcomes) == 12
    assert [best.data for best in study.best] == [10, 20, 40, 80]
    assert study.law is not None and study.law.exponent > 0
    assert {best.sizes for best in study.best} == {3}
    params = {o.counts.params for run in outcome.read().runs.values() for o in run.observations}
    assert params == {256 * width + width + 10 * width + 10 for width in (6, 18, 54)}
    again, same = hestness_study.run(tmp_path, path=digits, small=True)
    assert {o.state for o in again.outcomes} == {"skipped"} and same.best == study.best
    shown = Console(record=True, width=160)
    with shown.capture() as told:
        hestness_study.show(study, shown)
    assert f"Error: {study.law.coefficient:.3g} m^-{study.law.exponent:.3f}" in told.get()
    assert "Half the error" in told.get() and "Published exponents in that interval" in told.get()


def test_the_picture(tmp_path, digits):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install matplotlib")
    from foretrain.hestness import analyze_study
    from test_hestness import simulated

    runs = simulated()
    rows = list(zip(runs.data, runs.params, runs.error, strict=True))
    hestness_study.draw(analyze_study(runs), rows, tmp_path / "laws.png")
    assert (tmp_path / "laws.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_scikit_learns_digits_are_held_out_once():
    pytest.importorskip("sklearn", reason="scikit-learn is not installed: pip install scikit-learn")
    small, large = (hestness_study.read_digits(None).shard(size) for size in (89, 1437))
    assert small.sizes[-5:] == (89, 179, 359, 718, 1437)
    held = [set(data.val_dataloader().dataset.indices) for data in (small, large)]
    taken = [set(data.train_dataloader().dataset.indices) for data in (small, large)]
    assert held[0] == held[1] and len(held[0]) == 360
    assert taken[0] < taken[1] and not taken[1] & held[0]
