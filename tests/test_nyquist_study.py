"""The study of Nyquist learners, small: the band, its learner, and what the library says."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
import nyquist_study
from foretrain.error_sources import Verdict


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    root = tmp_path_factory.mktemp("nyquist")
    return root, nyquist_study.run(root, small=True)


def test_the_functions_of_the_band_are_orthonormal_on_the_torus():
    side = (torch.arange(32).double() + 0.5) / 32
    places = torch.cartesian_prod(side, side)
    basis = nyquist_study.features(places)
    assert basis.shape == (1024, 81) and nyquist_study.COEFFICIENTS == 81
    assert torch.allclose(basis.T @ basis / 1024, torch.eye(81, dtype=torch.double), atol=1e-9)
    # Nothing beyond the band is in the target.
    values = nyquist_study.band_limited(places).reshape(32, 32)
    spectrum = torch.fft.fft2(values).abs() / 1024
    inside = torch.zeros(32, dtype=torch.bool)
    inside[[*range(5), *range(28, 32)]] = True
    assert float(spectrum[~inside].max()) < 1e-9 and float(spectrum[:, ~inside].max()) < 1e-9
    assert float(spectrum[:5, :5].max()) > 0.05


def test_the_learner_of_the_band_is_exact_from_the_nyquist_number_on_and_not_before(small):
    _, (outcome, (runs, speeds, _)) = small
    assert outcome.complete
    data, error = runs["band alone"]
    assert (error[data >= 81] <= 1e-6).all() and (error[data == 80] > 1e-6).all()
    assert (error[data < 81] > 1e-4).all()
    speed = speeds["band alone"]
    assert speed.verdict is Verdict.FASTER and (speed.before_zero, speed.zero_from) == (80, 81)


def test_students_could_hold_their_teacher_and_runs_have_examples_of_their_own(small):
    root, (_, (runs, _, sources)) = small
    student, teacher = nyquist_study.network(10, nyquist_study.STUDENT), nyquist_study.make_teacher()
    wide, narrow = ([p.shape[0] for p in net.parameters()] for net in (student, teacher))
    assert wide == [64, 64, 64, 64, 1, 1] and narrow == [16, 16, 16, 16, 1, 1]
    assert sources.noise == sources.realizability == 0 and sources.deficiency > 0
    again, (same, *_) = nyquist_study.run(root, small=True)
    assert {one.state for one in again.outcomes} == {"skipped"}
    assert all(np.array_equal(same[name][1], runs[name][1]) for name in runs)


def test_more_training_lowers_the_error():
    config = {"learner": "network on a band", "data": 256, "seed": 0, "run": "one", "steps": 40}
    short, long = (
        {o.metric: o.value for o in nyquist_study.train({**config, "steps": steps})} for steps in (40, 400)
    )
    assert long["train_error"] < 0.5 * short["train_error"] and long["test_error"] < short["test_error"]


def test_what_it_says_and_draws(small, tmp_path):
    told = small[1][1]
    shown = Console(record=True, width=200)
    with shown.capture() as text:
        nyquist_study.show(told, shown)
    said = text.get()
    assert "band alone: The error falls faster than any power law" in said
    assert "from 81 examples on, and not at 80; the Nyquist number is 81" in said
    assert "= noise 0 + realizability 0 + deficiency of at least" in said
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install matplotlib")
    nyquist_study.draw(told, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
