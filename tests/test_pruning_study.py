"""The study of the pruning law, small: pruning with rewinding, its records, and what it says."""

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rich.console import Console

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))
import pruning_net
import pruning_study
from foretrain.analysis import Question, analyze
from foretrain.pruning import fit_curves
from foretrain.study.job import read_states
from noisy_digits import write_noisy_digits
from pruning_net import Network, Rounds, count_weights, prune_and_rewind, runs_of


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pruning")
    path = write_noisy_digits(folder, 600, train=400, noise=120)
    return folder, path, pruning_study.run(folder / "runs", path=path, small=True)


def test_every_training_is_a_finished_run_with_its_density_and_its_own_rate(small):
    folder, path, (outcome, told) = small
    assert outcome.complete and set(told.curves) == {(1, w, n) for w in (4, 8) for n in (128, 256)}
    records, (point, *_) = outcome.read().runs, pruning_study.make_points(path, small=True)
    names = runs_of(point.run, Rounds(densities=6))
    assert names[-1] == point.run and len(records) == 4 * 6 == 4 * len(set(names))
    weights = 256 * 4 + 4 * 10
    assert count_weights(256, 4, 1) == weights and count_weights(256, 32, 3) == 256 * 32 + 2 * 1024 + 320
    kept = [weights]
    while len(kept) < 6:
        kept.append(kept[-1] - round(0.7 * kept[-1]))
    for number, name in enumerate(names):
        steps = [o.counts.steps for o in records[name].observations]
        assert steps == ([16, 32, 48, 64] if number == 0 else [16, 32, 48])
        last = records[name].observations[-1].counts
        assert last.params_total == weights + 14 and last.unique_samples == 128
        assert last.density == (None if number == 0 else pytest.approx((kept[number] + 14) / (weights + 14)))
        # The rate of the last step is the same in all, and a pruned network begins at that of the early one.
        rates = records[name].schedule.rates()
        early = 0 if number == 0 else 16
        assert rates == pytest.approx([3e-3 * (1 - step / 64) for step in range(early, 64)])
    curve = told.curves[1, 4, 128]
    assert curve.density == pytest.approx(np.array(kept) / weights)
    assert curve.error.tolist() == [records[name].observations[-1].value for name in names]
    assert read_states(folder / "runs", pruning_study.STUDY, names) == dict.fromkeys(names, "finished")


def test_run_again_it_trains_nothing_and_says_the_same(small):
    folder, path, (_, told) = small
    again, same = pruning_study.run(folder / "runs", path=path, small=True)
    assert {one.state for one in again.outcomes} == {"skipped"} and same.joint == told.joint


def test_the_smallest_weights_of_all_layers_go_and_the_rest_are_as_they_were_early():
    torch.manual_seed(0)
    network = Network(6, 5, 2, 10, 0.1)
    early = {name: one.detach().clone() for name, one in network.named_parameters()}
    with torch.no_grad():
        for one in network.parameters():
            one.copy_(torch.randn_like(one))
    layers = [layer for layer, _ in network.prunable]
    trained = torch.cat([layer.weight.detach().flatten().abs() for layer in layers])
    total = count_weights(6, 5, 2)
    assert trained.numel() == total == 6 * 5 + 25 + 50
    left = total
    for number in range(3):
        masked = trained.clone()
        if number:
            masked[torch.cat([layer.weight_mask.flatten() for layer in layers]) == 0] = 0
        prune_and_rewind(network, 0.6, early)
        left -= round(0.4 * left)
        keep = torch.zeros(total, dtype=torch.bool)
        keep[masked.topk(left).indices] = True
        assert torch.equal(torch.cat([layer.weight_mask.flatten() for layer in layers]).bool(), keep)
        for name, one in network.named_parameters():
            assert torch.equal(one, early[name.removesuffix("_orig")])
        with torch.no_grad():  # as if it were trained again, to the same weights
            start = 0
            for layer in layers:
                size = layer.weight_orig.numel()
                layer.weight_orig.copy_(trained[start : start + size].reshape(layer.weight_orig.shape))
                layer.weight = layer.weight_orig * layer.weight_mask
                start += size
    with pytest.raises(
        ValueError, match=r"whole epochs in a look .*got 384 digits in batches of 128, 16 steps"
    ):
        digits = (torch.zeros(384, 6), torch.zeros(384).long()) * 2
        config = {
            "data": 384,
            "size": 5,
            "depth": 1,
            "seed": 0,
            "run": "r",
            "rounds": {"steps": 64, "looks": 4, "early": 16},
        }
        pruning_net.prune_network(config, digits, print, batch=128, rate=0.1)


def test_only_networks_unpruned_stand_in_the_law_across_the_runs(small):
    _, path, (outcome, _) = small
    runs = outcome.read().runs
    point = pruning_study.make_points(path, small=True)[0]
    report = analyze(runs, Question(point.run, metric="test_error", axis="samples"))
    assert report.history.density < 0.05 and report.joint.runs == ()
    whole = analyze(runs, Question(f"{point.run}_round-00", metric="test_error", axis="samples"))
    assert whole.history.density is None and all(name.endswith("_round-00") for name in whole.joint.runs)


def test_how_far_seeds_are_apart():
    drawn = np.random.default_rng(0).normal(1, 0.05, (40, 3, 500)) * np.geomspace(0.05, 0.8, 500)
    assert pruning_study.spread_of_seeds([*drawn, drawn[0, :1]]) == pytest.approx(0.05, rel=0.02)
    assert np.isnan(pruning_study.spread_of_seeds([drawn[0, :1]]))


def test_what_it_says_and_draws(small, tmp_path):
    told = small[2][1]
    narrow = [curve for (_, width, _), curve in told.curves.items() if width == 4]
    law, wide = fit_curves(narrow), told.curves[1, 8, 128]
    off = law.predict(1, 8, wide.density[1:], wide.unpruned) / wide.error[1:] - 1
    assert told.wider[:5] == pytest.approx(off) and told.wider.size == 10
    curve, ratios = told.curves[1, 4, 128], pruning_study.read_off(told)
    assert ratios.size and (ratios > 0).all()
    target = 1.25 * curve.unpruned
    by_law = told.judged.laws[0].density_for(target, 1, 4, curve.unpruned)
    assert ratios[0] == pytest.approx(by_law / curve.density_for(target))
    shown = Console(record=True, width=200)
    with shown.capture() as text:
        pruning_study.show(told, shown)
    said = text.get()
    own = np.concatenate([told.deviations(cell)[0] for cell in told.curves])
    assert f"{own.mean():+.1%}" in said and f"{own.std():.1%}" in said and f"{told.judged.std:.1%}" in said
    steep = [told.single[1, 8, data].parameters["gamma"] for data in (128, 256)]
    assert f"{min(steep):.2f} to {max(steep):.2f} of width 8." in said
    assert "Seeds differ" not in said, "there is one"
    with shown.capture() as text:
        pruning_study.show(replace(told, luck=0.08, seeds=4), shown)
    rest = max(told.judged.std**2 - 0.04**2, 0) ** 0.5
    assert (
        "Seeds differ by 8.0% of the error, so the mean of 4, which is fitted, is off by 4.0%" in text.get()
    )
    assert f"without it the law of the other networks would be off by {rest:.1%}." in text.get()
    assert "One law of 4 networks" in said and f"gamma = {told.joint.gamma:.3g}" in said
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install matplotlib")
    pruning_study.draw(told, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_the_early_weights_are_those_of_the_first_training():
    network, keeper = Network(6, 5, 1, 10, 0.1), pruning_net.KeepEarly(3)
    for step in (1, 2, 3, 4, 3):  # the next training goes through that step, too
        with torch.no_grad():
            network.net[0].bias.fill_(step if keeper.weights else step / 10)
        keeper.on_train_batch_end(SimpleNamespace(global_step=step), network, None, None, 0)
    assert keeper.weights["net.0.bias"].tolist() == pytest.approx([0.3] * 5)
    assert keeper.weights.keys() == {f"net.{layer}.{kind}" for layer in (0, 2) for kind in ("weight", "bias")}
