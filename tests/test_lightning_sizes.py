"""How large a model is, what its training computes, how much pruning has left, and by what rules."""

import contextlib
import functools
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn.utils import prune
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).parent))
from foretrain.lightning import ScalingLawMonitor
from foretrain.lightning.naming import function_name
from foretrain.lightning.parameters import ModelSize, count_parameters, density
from lightning_models import FLAVOURS, Texts, loader, make_module, make_trainer, only_run


@pytest.fixture(params=FLAVOURS)
def pl(request):
    return importlib.import_module(request.param)


@pytest.fixture
def one_pl():
    return importlib.import_module(FLAVOURS[0])


def fit(pl, root, module, *, train=None, monitor=None, callbacks=(), **options):
    monitor = ScalingLawMonitor(fit=False) if monitor is None else monitor
    trainer = make_trainer(pl, root, [monitor, *callbacks], **options)
    trainer.fit(module, loader() if train is None else train, loader())
    return only_run(root)


def last(run):
    return run.observations[-1].counts


# Parameters.


def sizes(module):
    size = count_parameters(module)
    return size.trainable, size.total, size.non_embedding, size.non_embedding_trainable


def test_parameters_tied_frozen_and_lazy():
    module = torch.nn.Module()
    module.a = torch.nn.Linear(3, 3)
    module.b = torch.nn.Linear(3, 3)
    assert sizes(module) == (24, 24, 24, 24)
    module.b.weight = module.a.weight
    assert sizes(module) == (15, 15, 15, 15)
    module.a.bias.requires_grad_(False)
    assert sizes(module) == (12, 15, 15, 12)
    module.c = torch.nn.LazyLinear(2)
    assert count_parameters(module) is None


def language_model(*, tied):
    module = torch.nn.Module()
    module.tokens = torch.nn.Embedding(10, 4)  # 40
    module.positions = torch.nn.Embedding(5, 4)  # 20
    module.bag = torch.nn.EmbeddingBag(3, 4)  # 12
    module.body = torch.nn.Linear(4, 4)  # 20
    module.head = torch.nn.Linear(4, 10, bias=False)  # 40
    if tied:
        module.head.weight = module.tokens.weight
    return module


def test_embeddings_are_left_out_but_not_a_tied_head():
    assert sizes(language_model(tied=False)) == (132, 132, 60, 60)
    assert sizes(language_model(tied=True)) == (92, 92, 60, 60)
    module = language_model(tied=True)
    module.tokens.requires_grad_(False)  # and with it the head
    assert sizes(module) == (52, 92, 60, 20)


def test_an_embedding_whose_weight_is_computed_is_one():
    module = language_model(tied=False)
    torch.nn.utils.parametrizations.weight_norm(module.tokens)
    prune.random_unstructured(module.positions, "weight", 0.5)
    total = sum(parameter.numel() for parameter in module.parameters())
    assert sizes(module)[1:3] == (total, 60)


def test_parameters_on_no_device_count():
    with torch.device("meta"):
        assert sizes(language_model(tied=True)) == (92, 92, 60, 60)


def test_the_whole_model_wins_over_a_shard():
    whole, shard, built = (ModelSize(n, n, n, n) for n in (100, 25, 120))
    assert shard.or_earlier(whole) == whole
    assert built.or_earlier(whole) == built  # built after `setup`
    assert whole.or_earlier(None) == whole
    frozen = ModelSize(10, 100, 100, 10)
    assert frozen.or_earlier(whole) == frozen


def test_shards_of_deepspeed_know_the_whole():
    module = torch.nn.Linear(4, 4)
    for parameter in module.parameters():
        parameter.ds_numel, parameter.data = parameter.numel(), torch.empty(0)
    assert sizes(module) == (20, 20, 20, 20)


def test_a_strategy_that_cuts_the_model_does_not_change_its_size(one_pl, tmp_path):
    class Cut(one_pl.Callback):
        def on_fit_start(self, trainer, module):
            module.net[1].weight = torch.nn.Parameter(torch.zeros(1, 2))  # 3 of 5 parameters are left

    module = make_module(one_pl, values=[0.5])
    module.loss = lambda batch: (module.net[1](batch[0][:, :2]) ** 2).mean()
    assert last(fit(one_pl, tmp_path, module, callbacks=[Cut()])).params == 5


def adapted(pl):
    """A frozen model with a low-rank adapter: 25 weights of which 8 are trained."""

    class Adapted(type(make_module(pl, width=4))):
        def __init__(self):
            super().__init__()
            self.base = torch.nn.Linear(4, 4, bias=False).requires_grad_(False)  # 16
            self.net[1].requires_grad_(False)  # 5
            self.down, self.up = torch.nn.Linear(4, 1, bias=False), torch.nn.Linear(1, 4, bias=False)

        def loss(self, batch):
            x = batch["x"] if isinstance(batch, dict) else batch[0]
            return super().loss([self.base(x) + self.up(self.down(x))])

    return Adapted()


@pytest.mark.parametrize(
    ("asked", "params", "convention"),
    [
        (None, 8, "trainable"),
        ("trainable", 8, "trainable"),
        ("total", 29, "total"),
        ("non_embedding", 29, "non_embedding"),
    ],
)
def test_low_rank_adapters(pl, tmp_path, asked, params, convention):
    run = fit(pl, tmp_path, adapted(pl), monitor=ScalingLawMonitor(fit=False, model_size=asked), max_epochs=2)
    counts = last(run)
    assert (counts.params, counts.params_total, counts.params_non_embedding) == (params, 29, 29)
    assert counts.flops == (4 * 29 + 2 * 8) * 40
    assert run.info.planned.flops == counts.flops
    assert run.info.conventions["params"] == convention
    assert run.info.conventions["flops"] == "6 * params * samples"  # one name for the rule


def test_compute_without_embeddings(one_pl, tmp_path):
    module = make_module(one_pl)
    module.words = torch.nn.Embedding(7, 3)
    module.loss = lambda batch: type(module).loss(module, batch) + module.words.weight.square().mean()
    monitor = ScalingLawMonitor(fit=False, model_size="non_embedding")
    run = fit(one_pl, tmp_path, module, train=loader(Texts()), monitor=monitor)
    counts = last(run)
    assert (counts.params, counts.params_total, counts.params_non_embedding) == (5, 26, 5)
    assert counts.flops == 6 * 5 * counts.tokens
    assert run.info.conventions["flops"] == "6 * params * tokens"


def test_the_size_of_the_user_is_used_for_compute(one_pl, tmp_path):
    run = fit(one_pl, tmp_path, adapted(one_pl), monitor=ScalingLawMonitor(fit=False, model_size=100))
    assert (last(run).params, last(run).flops) == (100, 6 * 100 * 20)
    assert run.info.conventions["params"] == "model_size"
    assert run.info.conventions["flops"] == "6 * params * samples"


@pytest.mark.parametrize("sanity", [0, 2])
@pytest.mark.parametrize("build", ["configured", "lazy", "meta"])
def test_models_built_late(pl, tmp_path, build, sanity):
    base = type(make_module(pl))

    class Late(base):
        def __init__(self):
            super().__init__()
            if build == "lazy":
                self.net[1] = torch.nn.LazyLinear(1)
            elif build == "meta":
                self.net[1] = torch.nn.Linear(4, 1, device="meta")
            else:
                self.net = None

        def configure_model(self):
            if build == "configured" and self.net is None:
                self.net = torch.nn.Sequential(torch.nn.Dropout(0.2), torch.nn.Linear(4, 1))
            elif build == "meta":
                self.net[1].to_empty(device="cpu")
                torch.nn.init.zeros_(self.net[1].weight)
                torch.nn.init.zeros_(self.net[1].bias)

    counts = last(fit(pl, tmp_path, Late(), num_sanity_val_steps=sanity))
    assert (counts.params, counts.params_total, counts.flops) == (5, 5, 6 * 5 * 20)


# Density.


def test_density_is_what_the_masks_leave():
    module = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.Linear(5, 2))  # 25 + 12
    assert density(module, 37) is None
    prune.l1_unstructured(module[0], "weight", 6)
    prune.l1_unstructured(module[1], "bias", 1)
    assert density(module, 37) == (37 - 7) / 37
    prune.l1_unstructured(module[0], "weight", 4)  # of those that are left
    assert density(module, 37) == (37 - 11) / 37
    module[1].weight_mask = torch.zeros(3)  # of the user, and none of these
    module[1].register_buffer("attention_mask", torch.zeros(2, 5))
    assert density(module, 37) == (37 - 11) / 37
    assert density(module, None) is None
    assert density(module, 20) is None  # a shard's
    prune.remove(module[0], "weight")
    prune.remove(module[1], "bias")
    assert density(module, 37) is None


def test_tied_weights_are_pruned_once():
    module = torch.nn.Sequential(torch.nn.Linear(4, 4, bias=False), torch.nn.Linear(4, 4, bias=False))
    module[1].weight = module[0].weight
    for part in module:
        prune.custom_from_mask(part, "weight", torch.eye(4))
    assert sizes(module)[1] == 16
    assert density(module, 16) == 4 / 16


def test_density_as_a_run_is_pruned(pl, tmp_path):
    class Prune(pl.Callback):
        def on_train_epoch_start(self, trainer, module):
            if trainer.current_epoch:
                prune.l1_unstructured(module.net[1], "weight", 1)

    run = fit(pl, tmp_path, make_module(pl), callbacks=[Prune()], max_epochs=4)
    assert [o.counts.density for o in run.observations] == [None, 4 / 5, 3 / 5, 2 / 5]
    assert [o.counts.params_total for o in run.observations] == [5] * 4
    assert run.info.planned.density is None


# FLOPs as torch counts them.


def attention(pl, width=8):
    class Attention(pl.LightningModule):
        """Two heads of attention over 3 positions, a layer, and dropout."""

        def __init__(self):
            super().__init__()
            self.project, self.out = torch.nn.Linear(width, 3 * width), torch.nn.Linear(width, 1)
            self.drop = torch.nn.Dropout(0.2)

        def loss(self, batch):
            x = batch[0].reshape(-1, 3, width)
            parts = (p.reshape(-1, 3, 2, width // 2).transpose(1, 2) for p in self.project(x).chunk(3, -1))
            y = torch.nn.functional.scaled_dot_product_attention(*parts, is_causal=True)
            return self.out(self.drop(y.transpose(1, 2).reshape(-1, 3, width))).square().mean()

        def training_step(self, batch, batch_idx):
            return self.loss(batch)

        def validation_step(self, batch, batch_idx):
            self.log("val_loss", self.loss(batch))

        def configure_optimizers(self):
            return torch.optim.AdamW(self.parameters(), 0.01)

    return Attention()


def wide(batch_size=4, n=20):
    x = torch.randn(n, 24, generator=torch.Generator().manual_seed(2))
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x), batch_size, shuffle=True)


def measured():
    return ScalingLawMonitor(fit=False, flops_per_sample="measured")


def by_hand(width=8):
    """FLOPs of a sample in a step of `attention`: two for a product and its sum."""
    positions, heads = 3, 2
    project, out = 2 * positions * width * 3 * width, 2 * positions * width
    product = 2 * heads * positions * positions * (width // heads)  # of two factors of attention
    forward = project + out + 2 * product
    # Each product has a gradient for both its factors, but for the input of the first layer; attention also
    # computes its weights again.
    backward = project + 2 * out + 5 * product
    return forward + backward


def no_mode_is_left():
    return torch._C._len_torch_dispatch_stack() == 0


def test_measured_compute_is_that_of_the_second_batch(pl, tmp_path):
    module = attention(pl)
    trainer = make_trainer(pl, tmp_path, [measured()], max_epochs=2, val_check_interval=1)
    trainer.fit(module, wide(), wide())
    run = only_run(tmp_path)
    assert run.info.conventions["flops"] == "torch counter, batch 2"
    expected = [None, *(float(by_hand() * 4 * batches) for batches in range(2, 11))]
    assert [o.counts.flops for o in run.observations] == expected
    assert no_mode_is_left()


def test_measured_compute_agrees_with_the_counter_of_torch(one_pl, tmp_path):
    """Of layers of many kinds; attention on the CPU, which that counter leaves out, is counted by hand."""
    module = make_module(one_pl)
    module.net = torch.nn.Sequential(
        torch.nn.Unflatten(1, (1, 4)), torch.nn.Conv1d(1, 3, 2), torch.nn.ReLU(), torch.nn.Flatten(),
        torch.nn.LayerNorm(9), torch.nn.Linear(9, 7), torch.nn.Linear(7, 1),
    )  # fmt: skip
    with FlopCounterMode(display=False) as counter:
        module.loss([torch.zeros(4, 4)]).backward()
    run = fit(one_pl, tmp_path, module, monitor=measured())
    assert last(run).flops == counter.get_total_flops() / 4 * 20
    assert counter.get_total_flops() > 0


def test_measuring_changes_nothing(pl, tmp_path):
    def weights(monitors, root):
        pl.seed_everything(3)
        module = attention(pl)
        trainer = make_trainer(pl, root, monitors, max_epochs=2)
        trainer.fit(module, wide(), wide())
        return [p.tolist() for p in module.parameters()], float(torch.rand(()))

    assert weights([measured()], tmp_path / "a") == weights([], tmp_path / "b")
    assert last(only_run(tmp_path / "a")).flops == by_hand() * 40


class Ends(Exception):
    pass


@pytest.mark.parametrize("where", ["training_step", "on_before_optimizer_step", "on_train_batch_end"])
@pytest.mark.parametrize("error", [Ends, KeyboardInterrupt])
def test_the_counter_is_left_when_training_fails(one_pl, tmp_path, where, error):
    class Failing(type(make_module(one_pl))):
        failed = False

        def fail(self, name, batch_idx):
            if name == where and batch_idx == 1:
                self.failed = no_mode_is_left() == (name == "on_train_batch_end")
                raise error

        def training_step(self, batch, batch_idx):
            self.batch = batch_idx
            self.fail("training_step", batch_idx)
            return super().training_step(batch, batch_idx)

        def on_before_optimizer_step(self, optimizer):
            self.fail("on_before_optimizer_step", self.batch)

        def on_train_batch_end(self, outputs, batch, batch_idx):
            self.fail("on_train_batch_end", batch_idx)

    module = Failing()
    with contextlib.suppress(error, SystemExit):  # older versions of Lightning end quietly at an interrupt
        make_trainer(one_pl, tmp_path, [measured()]).fit(module, loader(), loader())
    assert module.failed
    assert no_mode_is_left()


def test_a_batch_that_is_skipped_is_not_measured(one_pl, tmp_path):
    class Skipping(type(make_module(one_pl))):
        def on_train_batch_start(self, batch, batch_idx):
            return -1 if self.trainer.current_epoch == 0 and batch_idx == 1 else None

        def on_train_epoch_end(self):
            assert no_mode_is_left()

    run = fit(one_pl, tmp_path, Skipping(), monitor=measured(), max_epochs=2)
    # One product forward, one for the gradient of the weights: the first layer has no others.
    assert last(run).flops == (2 + 2) * 4 * last(run).samples


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("compiled", "the model is compiled"),
        ("formula", "formula for aten.addmm does not fit"),
        ("nothing", "nothing was counted"),
        ("shared", "several processes share the model"),
    ],
)
def test_compute_that_cannot_be_measured_is_unknown_and_said(one_pl, tmp_path, monkeypatch, change, words):
    module = make_module(one_pl)
    if change == "compiled":
        module.net[1]._compiled_call_impl = lambda *args: torch.nn.Linear.forward(module.net[1], *args)
    elif change == "formula":
        counters = importlib.import_module("torch.utils.flop_counter")
        monkeypatch.setitem(counters.flop_registry, torch.ops.aten.addmm, lambda *args, **kwargs: 1 // 0)
    elif change == "nothing":
        module.loss = lambda batch: module.net[1].weight.square().mean()
    else:
        # As with tensor parallelism: two processes, and each of them has all the data.
        monkeypatch.setattr("foretrain.lightning.flops._processes", lambda trainer: 2)
    with pytest.warns(UserWarning, match=words):
        run = fit(one_pl, tmp_path, module, monitor=measured(), max_epochs=2)
    assert [o.counts.flops for o in run.observations] == [None, None]
    assert no_mode_is_left()


# Names of functions of the user.


def rows(batch):
    return len(batch)


def scaled(batch, by=1):
    return len(batch) * by


class Rows:
    def __call__(self, batch):
        return len(batch)

    def count(self, batch):
        return len(batch)


def made(k):
    return lambda batch: len(batch) * k


def test_names_of_functions():
    here = rows.__module__
    assert function_name(rows) == f"{here}.rows"
    assert function_name(functools.partial(scaled, by=2)) == f"{here}.scaled(by=2)"
    assert function_name(Rows()) == f"{here}.Rows"
    assert function_name(Rows().count) == f"{here}.Rows.count"
    assert function_name(len) == "builtins.len"
    assert function_name(torch.Tensor.numel).endswith("TensorBase.numel")


def test_functions_without_a_name_are_told_apart_by_their_code():
    assert function_name(made(2)) == function_name(made(2))
    assert function_name(made(2)) != function_name(made(3))
    first, second = (lambda batch: len(batch)), (lambda batch: batch.numel())
    assert function_name(first) != function_name(second)
    assert function_name(lambda b, k=1: k) != function_name(lambda b, k=2: k)

    def again(batch):
        return again(batch[1:]) if batch else 0

    assert "again" in function_name(again)


def test_names_are_the_same_in_every_process():
    code = "from test_lightning_sizes import function_name, rows_in; print(function_name(rows_in))"
    paths = [str(Path(__file__).parent), *sys.path]
    names = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(paths)},
        ).stdout
        for seed in "12"
    }  # fmt: skip
    assert len(names) == 1


rows_in = lambda batch: len(batch) if batch in {"a", "b", "c", "d"} else 0  # noqa: E731


def test_runs_counted_by_other_functions_have_other_conventions(one_pl, tmp_path):
    def convention(root, **functions):
        monitor = ScalingLawMonitor(fit=False, **functions)
        return fit(one_pl, root, make_module(one_pl), monitor=monitor).info.conventions

    def sizes_of(module):
        return 7

    one = convention(tmp_path / "a", batch_size_fn=made(1), length_fn=made(2), model_size=sizes_of)
    same = convention(tmp_path / "b", batch_size_fn=made(1), length_fn=made(2), model_size=sizes_of)
    other = convention(tmp_path / "c", batch_size_fn=made(1), length_fn=made(3), model_size=sizes_of)
    assert one == same
    assert {name for name in one if one[name] != other[name]} == {"tokens"}
    assert one["tokens"].startswith("length_fn ")
    assert one["samples"].startswith("batch_size_fn ")
    assert one["params"].startswith("model_size ")


def test_the_default_rules_keep_their_names(one_pl, tmp_path):
    """Runs of earlier versions are to stay comparable."""
    assert fit(one_pl, tmp_path / "a", make_module(one_pl)).info.conventions == {
        "params": "trainable", "samples": "first tensor", "flops": "6 * params * samples",
        "metric": "val_loss", "schedule": "constant",
    }  # fmt: skip
    texts = fit(one_pl, tmp_path / "b", make_module(one_pl), train=loader(Texts()))
    assert texts.info.conventions["tokens"] == "attention_mask"
    assert texts.info.conventions["flops"] == "6 * params * tokens"


# Learning rates by group.


def grouped(pl, rates, *, tensors=False):
    class Grouped(type(make_module(pl))):
        def configure_optimizers(self):
            weight, bias = self.net[1].parameters()
            other = torch.nn.Parameter(torch.zeros(1))
            groups = [
                {"params": [p], "lr": torch.tensor(rate) if tensors else rate}
                for p, rate in zip((weight, bias, other), rates, strict=False)
            ]
            optimizer = torch.optim.SGD(groups, lr=1.0)
            if tensors:
                return optimizer
            halved = torch.optim.lr_scheduler.LambdaLR(
                optimizer, [lambda k: 0.5**k, lambda k: 1.0, lambda k: 1 / (1 + k)]
            )
            return [optimizer], [{"scheduler": halved, "interval": "step"}]

    return Grouped()


def test_learning_rates_of_three_groups(pl, tmp_path):
    rates = (0.01, 0.002, 0.03)
    run = fit(pl, tmp_path, grouped(pl, rates), val_check_interval=1)
    expected = [(0.01 * 0.5**k, 0.002, 0.03 / (1 + k)) for k in range(5)]
    assert [o.lrs for o in run.observations] == [pytest.approx(each) for each in expected]
    assert [o.lr for o in run.observations] == [max(o.lrs) for o in run.observations]


def test_learning_rates_that_are_tensors(one_pl, tmp_path):
    run = fit(one_pl, tmp_path, grouped(one_pl, (0.5, 0.25, 0.125), tensors=True))
    assert last(run) and run.observations[-1].lrs == (0.5, 0.25, 0.125)


def test_learning_rates_of_very_many_groups_are_not_listed(one_pl, tmp_path):
    class Many(type(make_module(one_pl))):
        def configure_optimizers(self):
            rest = [{"params": [torch.nn.Parameter(torch.zeros(1))]} for _ in range(64)]
            return torch.optim.SGD([{"params": self.parameters()}, *rest], lr=0.01)

    run = fit(one_pl, tmp_path, Many())
    assert (run.observations[-1].lr, run.observations[-1].lrs) == (0.01, None)


def test_points_without_an_update_have_no_rates(one_pl, tmp_path):
    run = fit(one_pl, tmp_path, make_module(one_pl), accumulate_grad_batches=3, val_check_interval=1)
    assert [o.lrs for o in run.observations] == [None, (0.01,), (0.01,)]
