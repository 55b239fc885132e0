"""The study of Rosenfeld et al. 2020, small."""

import sys
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
import rosenfeld_study


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rosenfeld")
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 10
    images = rng.integers(0, 256, (10, 16, 16))[labels] + rng.normal(0, 700, (200, 16, 16))
    images = np.clip(images, 0, 255).astype(np.uint8)  # so noisy that all networks make errors
    path = str(folder / "digits.npz")
    parts = {"x_train": images[:160], "x_test": images[160:]}
    np.savez(path, y_train=labels[:160], y_test=labels[160:], **parts)
    return folder, path, rosenfeld_study.run(folder / "runs", path=path, small=True)


def test_small_it_is_a_grid_of_halves_and_says_how_far_the_law_is_off(small):
    folder, path, (outcome, told) = small
    assert outcome.complete and told.shares.shape == (2, 12) and told.faultless == 0
    assert set(told.shares[1]) == {1, 0.5, 0.25}  # 64, 32 and 16 digits of 200, half of which are held out
    params = [(256 * w + w + 10 * w + 10) / (256 * 128 + 128 + 1290) for w in (128, 32, 8, 2)]
    assert sorted(set(told.shares[0])) == pytest.approx(sorted(params))
    assert told.law.parameters["e0"] == pytest.approx(0.9)
    assert told.folds.relative == pytest.approx(told.folds.predicted / told.error - 1)
    again, same = rosenfeld_study.run(folder / "runs", path=path, small=True)
    assert {one.state for one in again.outcomes} == {"skipped"} and (same.error == told.error).all()


def test_shards_are_beginnings_of_one_another_and_nothing_held_out_is_in_them(small):
    x, y, held, counted = rosenfeld_study.read_digits(small[1])
    assert len(y) == 64 and len(counted) == 100
    trained = {image.numpy().tobytes() for image in x}
    assert not trained & {image.numpy().tobytes() for image in held}
    assert np.bincount(y[:32].numpy()).min() >= 2  # classes have their share in a shard


def test_what_it_says_and_draws(small, tmp_path):
    told = small[2][1]
    shown = Console(record=True, width=200)
    with shown.capture() as text:
        rosenfeld_study.show(told, shown)
    said = text.get()
    assert f"{told.folds.mean:+.1%}" in said and f"{told.folds.std:.1%}" in said
    assert "Law of all 12 points" in said and "e0 = 0.9" in said
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install matplotlib")
    rosenfeld_study.draw(told, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
