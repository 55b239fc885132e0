"""The study of Rosenfeld et al. 2020, small."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
import rosenfeld_study
from foretrain.axes import Counts
from foretrain.observation import Observation
from foretrain.study import grid
from noisy_digits import write_noisy_digits


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rosenfeld")
    path = write_noisy_digits(folder, 200, train=160, noise=700)
    return folder, path, rosenfeld_study.run(folder / "runs", path=path, small=True)


def test_small_it_is_a_grid_of_halves_and_says_how_far_the_law_is_off(small):
    folder, path, (outcome, told) = small
    assert outcome.complete and told.shares.shape == (2, 12) and told.faultless == 0
    assert set(told.shares[1]) == {1, 0.5, 0.25}  # 64, 32 and 16 digits of 200, half of which are held out
    params = [(256 * w + w + 10 * w + 10) / (256 * 512 + 512 + 5130) for w in (512, 128, 32, 8)]
    assert sorted(set(told.shares[0])) == pytest.approx(sorted(params))
    assert told.law.parameters["e0"] == pytest.approx(0.9)
    assert told.folds.relative == pytest.approx(told.folds.predicted / told.error - 1)
    again, same = rosenfeld_study.run(folder / "runs", path=path, small=True)
    assert {one.state for one in again.outcomes} == {"skipped"} and (same.error == told.error).all()


def test_every_seed_splits_anew_and_nothing_held_out_is_trained_on(small):
    labels = rosenfeld_study.read_digits(small[1])[1]
    (first, held), (other, _) = (rosenfeld_study.split_digits(small[1], seed) for seed in (0, 1))
    assert len(first) == 64 and len(held) == 100
    assert not set(first.tolist()) & set(held.tolist()) and set(first.tolist()) != set(other.tolist())
    assert np.bincount(labels[first[:32]].numpy()).min() >= 2  # classes have their share in a shard


def test_seeds_train_on_digits_of_their_own_and_are_averaged(small, monkeypatch, tmp_path):
    path = small[1]
    config = {"path": path, "data": 64, "size": 8, "steps": 0, "run": "one"}
    held = rosenfeld_study.split_digits(path, 3)[1]
    torch.manual_seed(3)
    model = torch.nn.Sequential(torch.nn.Linear(256, 8), torch.nn.ReLU(), torch.nn.Linear(8, 10))
    pixels, labels = rosenfeld_study.read_digits(path)
    untrained = float((model(pixels[held]).argmax(1) != labels[held]).float().mean())
    assert rosenfeld_study.train({**config, "seed": 3}).value == pytest.approx(untrained)
    monkeypatch.setattr(rosenfeld_study, "train", told_by_seed)
    monkeypatch.setattr(rosenfeld_study, "make_points", twelve_places_of_two_seeds)
    _, told = rosenfeld_study.run(tmp_path, path=path, small=True)
    # .3 and .5 at each place: their mean, and their standard deviation .1 sqrt(2) over it.
    assert told.error == pytest.approx(0.4) and told.seeds == 2
    assert told.luck == pytest.approx(0.02**0.5 / 0.4)


def told_by_seed(config):
    counts = Counts(samples=1, steps=1, params=config["size"], unique_samples=config["data"])
    return Observation(config["run"], "test_error", (0.3, 0.5)[config["seed"]], counts)


def twelve_places_of_two_seeds(path, *, small):
    return grid(size=[8, 16, 32, 64], data=[16, 32, 64], seed=(0, 1))


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
