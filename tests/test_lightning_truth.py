"""What the callback counts in a Trainer, against what was handed out and trained on: see `truth.py`."""

import importlib
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    RandomSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

sys.path.insert(0, str(Path(__file__).parent))
from foretrain.lightning import ScalingLawMonitor
from lightning_models import FLAVOURS, only_run, read_study
from truth import Numbered, Pack, Stream, inputs, make_reader, make_truth, train

pytestmark = pytest.mark.filterwarnings("ignore:.*not resumable", "ignore:.*does not have many workers")


@pytest.fixture(params=FLAVOURS)
def pl(request):
    return importlib.import_module(request.param)


@pytest.fixture
def one_pl():
    return importlib.import_module(FLAVOURS[0])


def recorded(run):
    counts = [observation.counts for observation in run.observations]
    return [(c.steps, c.samples, c.tokens or 0, c.unique_samples) for c in counts]


def check(run, truth, known):
    """The counts are the true ones; the distinct samples are known at validations as said, and then true."""
    told, true = recorded(run), list({steps: row for steps, *row in truth.noted}.values())
    assert [row[1:3] for row in told] == [tuple(row[:2]) for row in true]
    assert [row[0] for row in told] == sorted({row[0] for row in truth.noted})
    assert all(distinct in (None, row[-1]) for (*_, distinct), row in zip(told, true, strict=True))
    assert "".join("x" if distinct is None else "=" for *_, distinct in told) == known


class Picky(RandomSampler):
    """Draws the same few samples, though its class says otherwise."""

    def __iter__(self):
        return iter([0, 1, 2, 3] * 5)


# 20 samples in batches of 4, 2 epochs with two validations in each, after 2 and 4 of 5 batches; the distinct
# samples as they are known there: `=` for known, `x` for unknown.
LOADERS = {
    "in order": (lambda data: DataLoader(data, 4), "===="),
    "shuffled": (lambda data: DataLoader(data, 4, shuffle=True), "===="),
    "by workers": (lambda data: DataLoader(data, 4, shuffle=True, num_workers=2), "===="),
    "short last batch": (lambda data: DataLoader(data, 8), "=="),
    "last batch dropped": (lambda data: DataLoader(data, 8, drop_last=True, shuffle=True), "=x"),
    "in order, dropped": (lambda data: DataLoader(data, 8, drop_last=True), "=="),
    "fewer": (lambda data: DataLoader(data, 4, sampler=RandomSampler(data, num_samples=18)), "==xx"),
    "twice": (lambda data: DataLoader(data, 4, sampler=RandomSampler(data, num_samples=40)), "==" * 5),
    "replaced": (lambda data: DataLoader(data, 4, sampler=RandomSampler(data, replacement=True)), "xxxx"),
    "weighted": (lambda data: DataLoader(data, 4, sampler=WeightedRandomSampler([1.0] * 20, 20)), "xxxx"),
    "subset": (lambda data: DataLoader(data, 4, sampler=SubsetRandomSampler(range(13))), "===="),
    "subset with doubles": (
        lambda data: DataLoader(data, 4, sampler=SubsetRandomSampler([1, 2] * 8)),
        "xxxx",
    ),
    "sampler of the user": (lambda data: DataLoader(data, 4, sampler=Picky(data)), "xxxx"),
    "batch sampler": (
        lambda data: DataLoader(data, batch_sampler=BatchSampler(RandomSampler(data), 4, False)),
        "====",
    ),
    "batches of the user": (lambda data: DataLoader(data, batch_sampler=[[1, 2], [3, 4, 5], [1, 2]]), "xx"),
    "whole batches": (lambda data: DataLoader(data, None, sampler=[[0, 1, 2], [3, 4], [5, 6]]), "xx"),
    "stream": (lambda data: DataLoader(Stream(20), 4), "xxxx"),
}


class Whole(Numbered):
    def __getitem__(self, index):
        if not isinstance(index, list):
            return super().__getitem__(index)
        return tuple(map(torch.stack, zip(*(self[one] for one in index), strict=True)))


@pytest.mark.parametrize("name", LOADERS)
def test_loaders_and_samplers(one_pl, tmp_path, name):
    make, known = LOADERS[name]
    data = Whole(20)
    truth = train(
        one_pl, tmp_path, ScalingLawMonitor(fit=False), make(data), max_epochs=2, val_check_interval=2
    )
    check(only_run(tmp_path), truth, known)
    if name not in ("stream", "by workers", "whole batches"):
        # The log of the data set agrees with what was read from the batches. (Others hand out ahead of time.)
        assert int(data.handed.sum()) >= truth.samples
        assert {int(i) for i in data.handed.nonzero()} >= truth.seen


@pytest.mark.parametrize(
    ("options", "shuffled", "in_order"),
    [
        ({"max_epochs": 3}, "===", "==="),
        ({"max_epochs": 3, "limit_train_batches": 3}, "=xx", "==="),
        ({"max_epochs": 3, "limit_train_batches": 0.5}, "=xx", "==="),
        ({"max_epochs": 2, "accumulate_grad_batches": 3, "val_check_interval": 1}, "=" * 5, "=" * 5),
        ({"max_epochs": 2, "accumulate_grad_batches": 2, "limit_train_batches": 3}, "=x", "=="),
        (
            {"max_steps": 12, "max_epochs": -1, "val_check_interval": 4, "check_val_every_n_epoch": None},
            "===",
            "===",
        ),
        ({"max_epochs": 4, "check_val_every_n_epoch": 2}, "==", "=="),
    ],
)
def test_limits_and_accumulation(pl, tmp_path, options, shuffled, in_order):
    for name, known in (("shuffled", shuffled), ("in order", in_order)):
        train_loader = DataLoader(Numbered(20), 4, shuffle=name == "shuffled")
        truth = train(pl, tmp_path / name, ScalingLawMonitor(fit=False), train_loader, **options)
        check(only_run(tmp_path / name), truth, known)


def test_an_epoch_that_the_module_cuts_short(one_pl, tmp_path):
    train_loader = DataLoader(Numbered(20), 4, shuffle=True)
    monitor, module = ScalingLawMonitor(fit=False), make_reader(one_pl, skip=3)
    truth = train(one_pl, tmp_path, monitor, train_loader, module=module, max_epochs=3, val_check_interval=2)
    check(only_run(tmp_path), truth, "=xx")


def test_data_that_may_change_between_epochs(one_pl, tmp_path):
    class Changing(type(make_reader(one_pl))):
        def train_dataloader(self):
            return DataLoader(Numbered(20, start=100 * self.trainer.current_epoch), 4)

    truth = train(
        one_pl, tmp_path, ScalingLawMonitor(fit=False), None, module=Changing(),
        max_epochs=3, reload_dataloaders_every_n_epochs=1,
    )  # fmt: skip
    assert [row[-1] for row in truth.noted] == [20, 40, 60]
    check(only_run(tmp_path), truth, "xxx")


@pytest.mark.parametrize("optimizers", [2, 3])
def test_several_optimizers_that_take_turns(pl, tmp_path, optimizers):
    train_loader, module = DataLoader(Numbered(20), 4), make_reader(pl, optimizers=optimizers)
    truth = train(pl, tmp_path, ScalingLawMonitor(fit=False), train_loader, module=module, max_epochs=2)
    assert truth.steps == 20
    check(only_run(tmp_path), truth, "==")


# Several loaders.


def pair(data, others):
    return {"a": DataLoader(data, 4, shuffle=True), "b": DataLoader(others, 2)}


STRUCTURES = {
    "dictionary": pair,
    "list": lambda data, others: list(pair(data, others).values()),
    "nested": lambda data, others: {
        "one": pair(data, others),
        "two": [DataLoader(Numbered(7, start=200), 3)],
    },
    "alone in a list": lambda data, others: [DataLoader(data, 4)],
}


@pytest.mark.parametrize("mode", ["min_size", "max_size", "max_size_cycle", None])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_several_loaders(one_pl, tmp_path, mode, structure):
    train_loader = STRUCTURES[structure](Numbered(20), Numbered(6, start=100))
    if mode is not None:
        combined = importlib.import_module(f"{one_pl.__name__}.utilities.combined_loader")
        train_loader = combined.CombinedLoader(train_loader, mode)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        truth = train(one_pl, tmp_path, ScalingLawMonitor(fit=False), train_loader, max_epochs=2)
    run = only_run(tmp_path)
    check(run, truth, "xx")
    alone = structure == "alone in a list"
    assert run.info.conventions["samples"] == ("first tensor" if alone else "first tensor of each loader")
    assert not [w for w in caught if "ScalingLawMonitor" in str(w.message)]


@pytest.mark.parametrize("mode", ["min_size", "max_size", "max_size_cycle"])
def test_tokens_of_several_loaders(one_pl, tmp_path, mode):
    combined = importlib.import_module(f"{one_pl.__name__}.utilities.combined_loader")
    train_loader = combined.CombinedLoader(
        pair(Numbered(20, texts=True), Numbered(6, start=100, texts=True)), mode
    )
    truth = train(one_pl, tmp_path, ScalingLawMonitor(fit=False), train_loader, max_epochs=2)
    assert truth.tokens > truth.samples
    run = only_run(tmp_path)
    check(run, truth, "xx")
    assert run.info.conventions["tokens"] == "attention_mask of each loader"


# Shapes of a batch of texts.


def merged(rows):
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]}


SHAPES = {
    "mapping": merged,
    "with labels": lambda rows: (merged(rows), torch.arange(len(rows))),
    "behind labels": lambda rows: [torch.arange(len(rows)), merged(rows)],
    "two parts": lambda rows: (merged(rows[: len(rows) // 2]), merged(rows[len(rows) // 2 :])),
    "dataclass": lambda rows: Pack(torch.arange(len(rows)), **merged(rows)),
    "not collated": list,
}


@pytest.mark.parametrize("shape", SHAPES)
def test_tokens_in_batches_of_every_shape(one_pl, tmp_path, shape):
    train_loader = DataLoader(Numbered(19, texts=True), 4, collate_fn=SHAPES[shape])
    monitor = ScalingLawMonitor(fit=False, batch_size_fn=rows_of)
    truth = train(one_pl, tmp_path, monitor, train_loader, max_epochs=2)
    assert truth.tokens == 2 * sum(1 + i % 6 for i in range(19))
    run = only_run(tmp_path)
    check(run, truth, "==")
    assert run.info.conventions["tokens"] == "attention_mask"


def rows_of(batch):
    return sum(len(x) for x in inputs(batch))


# Resume.


def resumed(pl, root, make, stops, **options):
    """A run that is stopped after so many steps each, and resumed in a new Trainer by a new monitor."""
    truth = make_truth(pl)
    for attempt, stop in enumerate(stops):
        save = pl.callbacks.ModelCheckpoint(root, save_last=True, every_n_train_steps=1, save_top_k=0)
        train(
            pl, root, ScalingLawMonitor(fit=False, run="r"), make(), truth=truth, callbacks=[save],
            max_steps=stop, max_epochs=9, val_check_interval=1, enable_checkpointing=True,
            ckpt_path=root / "last.ckpt" if attempt else None, **options,
        )  # fmt: skip
    return truth, read_study(root / "foretrain").runs["r"]


@pytest.mark.parametrize("stops", [[5, 10], [2, 12], [7, 15], [2, 4, 17], [2, 5, 11], [3, 7, 16]])
def test_resumed_within_an_epoch(one_pl, tmp_path, stops):
    for name in ("shuffled", "in order"):
        truth, run = resumed(
            one_pl,
            tmp_path / name,
            lambda: DataLoader(Numbered(20), 4, shuffle=name == "shuffled"),  # noqa: B023
            stops,
        )
        # After a resume the data begin anew. In another order, what is new is known once a whole epoch was
        # seen since, or before. (Before 2.5 Lightning trains on one batch more in the epoch it resumes.)
        certain = [
            name == "in order" or step <= stops[0] or whole == 20 for step, whole in truth.wholes.items()
        ]
        check(run, truth, "".join("=" if known else "x" for known in certain))
        assert run.info.attempt == len(stops)
        assert all(certain) == (name == "in order" or stops[0] >= 5)


def test_overfitting_sees_few_samples(one_pl, tmp_path):
    for name in ("shuffled", "in order"):
        train_loader = DataLoader(Numbered(20), 4, shuffle=name == "shuffled")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            truth = train(
                one_pl, tmp_path / name, ScalingLawMonitor(fit=False), train_loader,
                overfit_batches=2, max_epochs=3,
            )  # fmt: skip
        assert [row[-1] for row in truth.noted] == [8, 8, 8]
        check(only_run(tmp_path / name), truth, "===")
