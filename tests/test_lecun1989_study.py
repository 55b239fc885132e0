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
import lecun1989_recipes
import lecun1989_study
from lecun1989_descent import SingleExamples
from lecun1989_net import LeNet1989


def test_it_has_the_parameters_and_connections_of_1989():
    network = LeNet1989()
    assert sum(p.numel() for p in network.parameters()) == 9760
    # Each unit of a layer has its sources and a bias: 12 planes of 64, 12 of 16 that see 8 planes, 30, 10.
    counted = 12 * 64 * (25 + 1) + 12 * 16 * (8 * 25 + 1) + 30 * (192 + 1) + 10 * (30 + 1)
    assert network.connections() == counted == 64_660


def test_each_plane_of_the_second_layer_sees_its_eight_of_the_first():
    network = LeNet1989()
    seen = [sorted(group) for group in network.sources.reshape(3, 8).tolist()]
    assert seen == [[*range(8)], [*range(4, 12)], [0, 1, 2, 3, 8, 9, 10, 11]]


@pytest.mark.parametrize("fan_in", [25, 200, 192, 30])
def test_weights_begin_within_the_bounds_of_1989(fan_in):
    network = LeNet1989()
    weights = {25: network.h1, 200: network.h2, 192: network.h3, 30: network.out}[fan_in].detach()
    assert 0.8 * 2.4 / fan_in**0.5 < float(weights.abs().max()) <= 2.4 / fan_in**0.5


@pytest.mark.parametrize(("wide", "params"), [(0.25, 947), (0.5, 2845), (1.5, 20755), (2, 35830)])
def test_other_widths_have_planes_and_hidden_units_in_proportion(wide, params):
    planes, hidden = round(12 * wide), round(30 * wide)
    layers = 25 * planes + 64 * planes + planes * (2 * planes // 3) * 25 + 16 * planes
    assert layers + (16 * planes + 1) * hidden + 10 * (hidden + 1) == params
    assert sum(p.numel() for p in LeNet1989(wide=wide).parameters()) == params


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("wide", [0.25, 1, 2])
@pytest.mark.parametrize(("relu", "adamw"), [(False, False), (False, True), (True, True)])
def test_a_step_on_one_example_is_that_of_torch(softmax, wide, relu, adamw):
    torch.manual_seed(1)
    network = LeNet1989(relu=relu, wide=wide)
    ours = copy.deepcopy(network)
    trainer = SingleExamples(ours, softmax=softmax, adamw=adamw)
    kind = torch.optim.AdamW if adamw else torch.optim.SGD
    optimizer = kind(network.parameters(), lr=0.03)
    rng = np.random.default_rng(0)
    for label in (3, 0, 9):
        image = rng.uniform(-1, 1, (16, 16)).astype(np.float32)
        kept = rng.integers(0, 2, network.h3.shape[1]).astype(np.float32) / 0.75 if relu else None
        outputs = network(torch.tensor(image)[None, None], 1.0 if kept is None else torch.tensor(kept))
        target = 2 * functional.one_hot(torch.tensor([label]), 10).float() - 1
        if softmax:
            loss = functional.cross_entropy(outputs, torch.tensor([label]))
        else:
            loss = functional.mse_loss(torch.tanh(outputs), target)
        for group in optimizer.param_groups:
            group["lr"] = 0.03 / (label + 1)
        optimizer.zero_grad()
        loss.backward()
        before = [p.detach().clone() for p in ours.parameters()]
        optimizer.step()
        trainer.learn(image, label, 0.03 / (label + 1), kept)
        for mine, reference, old in zip(ours.parameters(), network.parameters(), before, strict=True):
            assert not torch.equal(mine, old)
            # AdamW divides by the slopes' size, so the rounding of a slope near zero counts in full.
            off = (mine - reference).detach().abs()
            assert float(off.max()) < (2e-7 if not adamw else 1e-4) and float(off.median()) < 2e-7


def test_the_ladder_is_that_of_karpathy():
    told = [(r.name, r.passes, r.rate, r.last_rate) for r in lecun1989_recipes.LADDER.values()]
    assert told == [
        ("1989", 23, 0.03, 0.03),
        ("softmax", 23, 0.01, 0.01),
        ("AdamW", 46, 3e-4, 1e-4),
        ("shifts", 60, 3e-4, 1e-4),
        ("dropout, ReLU", 80, 3e-4, 1e-4),
    ]
    added = [(r.softmax, r.adamw, r.shift, r.modern) for r in lecun1989_recipes.LADDER.values()]
    assert added == [(0, 0, 0, 0), (1, 0, 0, 0), (1, 1, 0, 0), (1, 1, 1, 0), (1, 1, 1, 1)]


def test_a_quarter_of_the_inputs_of_the_hidden_layer_are_dropped():
    kept = lecun1989_recipes._dropout(500, LeNet1989(), np.random.default_rng(0))
    assert kept.shape == (500, 192) and set(kept.ravel().tolist()) == {0.0, float(np.float32(4 / 3))}
    assert kept.mean() == pytest.approx(1, abs=0.01)  # 5 standard errors


def test_images_are_shifted_by_a_pixel_at_most():
    images = np.broadcast_to(np.arange(256.0, dtype=np.float32).reshape(1, 16, 16), (200, 16, 16))
    moved = lecun1989_recipes.shifted(images, np.random.default_rng(0))
    wide = np.pad(images[0], 1, constant_values=-1.0)
    allowed = {(r, c): wide[r : r + 16, c : c + 16] for r in range(3) for c in range(3)}
    found = {place for image in moved for place, one in allowed.items() if np.array_equal(image, one)}
    assert found == set(allowed) and moved.shape == (200, 16, 16)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lecun")
    path = write_digits(folder)
    return folder, path, lecun1989_study.run(folder / "runs", path=path, small=True)


def test_small_it_ends_in_errors_and_a_law_and_goes_on_where_it_was(small):
    folder, path, (outcome, told) = small
    assert outcome.complete and told.whole == 160 and told.items == 40
    assert told.digits == "digits of zip.npz"
    assert [data for _, data, recipe in told.errors if recipe == "1989"] == [5, 10, 20, 40, 160]
    params = {o.counts.params for run in outcome.read().runs.values() for o in run.observations}
    assert params == {9760, 947, 2845, 35830} and told.params[1] == 9760
    assert told.sizes is not None and told.sizes.data.tolist() == [947, 2845, 9760, 35830]
    again, same = lecun1989_study.run(folder / "runs", path=path, small=True)
    assert {one.state for one in again.outcomes} == {"skipped"} and same.errors == told.errors


def test_the_points_are_those_of_the_ladder_its_shards_and_the_widths():
    points = lecun1989_study.make_points(None)
    whole = len(lecun1989_recipes.read_digits(None)[1])
    seeds = {}
    for p in points:
        seeds.setdefault((p.size, p.data, p.options["recipe"]), []).append(p.seed)
    last = lecun1989_study.LAST
    assert {name for size, data, name in seeds if (size, data) == (1, whole)} == set(lecun1989_recipes.LADDER)
    assert all(seeds[1, whole, name] == [0, 1, 2] for name in ("1989", "shifts", last))
    assert all(len(seeds[1, whole // share, "1989"]) == 5 for share in (4, 8, 16, 32))
    assert all(len(seeds[1, whole // share, last]) == 3 for share in (4, 8, 16, 32))
    assert all(seeds[wide, whole // 16, last] == [0, 1, 2] for wide in (0.25, 0.5, 1, 2))


def test_what_it_says(small):
    told = lecun1989_study.Revisited(
        errors={
            (1, 160, "1989"): (0.0495, 0.0505),
            (1, 160, lecun1989_study.LAST): (0.025, 0.03),
            (1, 160, "softmax"): (0.04, 0.04),
            **{(1, data, "1989"): (0.05 * (160 / data) ** 0.4,) for data in (5, 10, 20, 40)},
        },
        params={1: 9760},
        laws={"1989": lecun1989_study.fit_error_law([5, 10, 20, 40], [0.2, 0.152, 0.115, 0.087])},
        sizes=lecun1989_study.fit_error_law(
            [947, 2845, 9760, 35830], [0.06 * (9760 / n) ** 0.3 for n in (947, 2845, 9760, 35830)]
        ),
        whole=160,
        items=2007,
        digits="digits of zip.npz",
    )
    shown = Console(record=True, width=600)
    with shown.capture() as text:
        lecun1989_study.show(told, shown)
    said = text.get()
    assert "Test error on 2,007 digits of zip.npz, after training on 160" in said
    assert "5.00%" in said and "45% (" in said
    assert "came 5.00%: the interval holds it" in said and "ten times the data would give" in said
    assert "on 10 digits: errors 12.08% of 947, 8.68% of 2,845" in said  # .06 (9760 / N)^.3
    assert "exponent of size 0.30 (0.30 to 0.30); ten times the network of 1989 would give 3.01%" in said
    assert said.index("1989") < said.index("softmax") < said.index("dropout, ReLU")
    assert "0.208 +- 0.089 (1989) and 0.125 +- 0.138 (modern)" in said


def test_the_picture(small, tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install matplotlib")
    lecun1989_study.draw(small[2][1], tmp_path / "lecun.png")
    assert (tmp_path / "lecun.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
