"""The study of LeCun et al. 1989, small: the network to the letter, its training, the ladder and the laws."""

import copy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from torch.nn import functional

from test_study_example import write_digits

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
import lecun1989_study
from lecun1989_net import LeNet1989, SingleExamples


def test_it_has_the_parameters_and_connections_of_1989():
    network = LeNet1989()
    assert sum(p.numel() for p in network.parameters()) == 9760
    # Each unit of a layer has its sources and a bias: 12 planes of 64, 12 of 16 that see 8 planes, 30, 10.
    counted = 12 * 64 * (25 + 1) + 12 * 16 * (8 * 25 + 1) + 30 * (192 + 1) + 10 * (30 + 1)
    assert network.connections() == counted == 64_660


def test_each_plane_of_the_second_layer_sees_its_eight_of_the_first():
    network = LeNet1989()
    seen = network.sources.reshape(3, 8).tolist()
    assert seen == [[*range(8)], [*range(4, 12)], [0, 1, 2, 3, 8, 9, 10, 11]]


@pytest.mark.parametrize("fan_in", [25, 200, 192, 30])
def test_weights_begin_within_the_bounds_of_1989(fan_in):
    network = LeNet1989()
    weights = {25: network.h1, 200: network.h2, 192: network.h3, 30: network.out}[fan_in].detach()
    assert 0.8 * 2.4 / fan_in**0.5 < float(weights.abs().max()) <= 2.4 / fan_in**0.5


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("wide", [1, 2])
def test_a_step_on_one_example_is_that_of_torch(softmax, wide):
    torch.manual_seed(1)
    network = LeNet1989(wide=wide)
    ours = copy.deepcopy(network)
    trainer = SingleExamples(ours, softmax=softmax)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.03)
    rng = np.random.default_rng(0)
    for label in (3, 0, 9):
        image = rng.uniform(-1, 1, (16, 16)).astype(np.float32)
        outputs = network(torch.tensor(image)[None, None])
        target = 2 * functional.one_hot(torch.tensor([label]), 10).float() - 1
        if softmax:
            loss = functional.cross_entropy(outputs, torch.tensor([label]))
        else:
            loss = functional.mse_loss(torch.tanh(outputs), target)
        optimizer.zero_grad()
        loss.backward()
        before = [p.detach().clone() for p in ours.parameters()]
        optimizer.step()
        trainer.learn(image, label, np.float32(0.03))
        for mine, reference, old in zip(ours.parameters(), network.parameters(), before, strict=True):
            assert not torch.equal(mine, old)
            assert torch.allclose(mine, reference, atol=2e-7)


def test_images_are_shifted_by_a_pixel_at_most():
    torch.manual_seed(0)
    x = torch.arange(256.0).reshape(1, 1, 16, 16).expand(200, 1, 16, 16)
    moved = lecun1989_study._shifted(x)
    wide = functional.pad(x[:1], (1, 1, 1, 1), value=-1.0)[0, 0]
    allowed = {(r, c): wide[r : r + 16, c : c + 16] for r in range(3) for c in range(3)}
    found = {place for image in moved[:, 0] for place, one in allowed.items() if torch.equal(image, one)}
    assert found == set(allowed)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lecun")
    path = write_digits(folder)
    return folder, path, lecun1989_study.run(folder / "runs", path=path, small=True)


def test_small_it_ends_in_errors_and_a_law_and_goes_on_where_it_was(small):
    folder, path, (outcome, told) = small
    assert outcome.complete and told.whole == 160 and told.items == 40
    assert [data for _, data, recipe in told.errors if recipe == "1989"] == [5, 10, 20, 40, 160]
    params = {o.counts.params for run in outcome.read().runs.values() for o in run.observations}
    assert params == {9760}
    again, same = lecun1989_study.run(folder / "runs", path=path, small=True)
    assert {one.state for one in again.outcomes} == {"skipped"} and same.errors == told.errors


def test_what_it_says(small):
    told = lecun1989_study.Revisited(
        errors={
            (1, 160, "1989"): (0.0495, 0.0505),
            (1, 160, lecun1989_study.LAST): (0.025, 0.03),
            (2, 160, lecun1989_study.LAST): (0.02, 0.02),
            (1, 160, "softmax"): (0.04, 0.04),
            **{(1, data, "1989"): (0.05 * (160 / data) ** 0.4,) for data in (5, 10, 20, 40)},
        },
        laws={"1989": lecun1989_study.fit_error_law([5, 10, 20, 40], [0.2, 0.152, 0.115, 0.087])},
        whole=160,
        items=2007,
    )
    shown = Console(record=True, width=300)
    with shown.capture() as text:
        lecun1989_study.show(told, shown)
    said = text.get()
    assert "5.00%" in said and "45% (" in said
    assert "came 5.00%: the interval holds it" in said and "ten times the data would give" in said
    assert "twice the width gives 27% fewer errors" in said
    assert (
        said.index("1989")
        < said.index("softmax")
        < said.index("dropout, ReLU")
        < said.index("2 times as wide")
    )
    assert "0.208 +- 0.089 (1989) and 0.125 +- 0.138 (modern)" in said


def test_the_picture(small, tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install matplotlib")
    lecun1989_study.draw(small[2][1], tmp_path / "lecun.png")
    assert (tmp_path / "lecun.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
