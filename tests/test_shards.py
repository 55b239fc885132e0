"""Nested shards: which examples belong to which size, and the data module that trains on them."""

import importlib

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset, WeightedRandomSampler

from foretrain.lightning import NestedShards, ScalingLawMonitor
from foretrain.shards import nested_shards
from lightning_models import FLAVOURS, make_module, make_trainer, only_run, points

LABELS = np.repeat([0, 1, 2, 3], [500, 300, 150, 50])


# Which examples


@pytest.mark.parametrize("labels", [None, LABELS])
def test_shards_are_nested_disjoint_from_the_validation_set_and_double(labels):
    shards = nested_shards(1000, labels=labels, validation=0.2, smallest=40, seed=3)
    assert shards.sizes == (50, 100, 200, 400, 800)
    held = set(shards.validation.tolist())
    assert len(held) == 200
    smaller = set()
    for size in shards.sizes:
        shard = set(shards.take(size).tolist())
        assert len(shard) == size and smaller <= shard and not shard & held
        smaller = shard
    assert smaller | held == set(range(1000))


def test_every_shard_and_the_validation_set_hold_the_classes_in_proportion():
    shards = nested_shards(1000, labels=LABELS, validation=200, seed=1)
    share = np.array([0.5, 0.3, 0.15, 0.05])
    for size in (20, 33, 100, 257, 800):
        counts = np.bincount(LABELS[shards.take(size)], minlength=4)
        assert np.abs(counts - size * share).max() <= 0.75  # rounded, not merely within one
    assert np.abs(np.bincount(LABELS[shards.validation]) - 200 * share).max() <= 1.0
    loose = nested_shards(1000, validation=200, seed=1)
    off = [np.abs(np.bincount(LABELS[loose.take(s)], minlength=4) - s * share).max() for s in (100, 257, 400)]
    assert max(off) > 2  # by chance, without labels


def test_names_of_classes_do_as_well_as_numbers():
    names = np.array(["cat", "dog", "eel", "fox"])[LABELS]
    by_name, by_number = (nested_shards(1000, labels=labels, seed=5) for labels in (list(names), LABELS))
    assert np.array_equal(by_name.order, by_number.order)


def test_the_order_is_the_same_for_ever_and_changes_with_the_seed():
    assert nested_shards(8, seed=0).order.tolist() == ORDER
    raw = np.random.Philox(0).random_raw(8)
    assert sorted(range(8), key=lambda i: raw[i]) == ORDER
    assert nested_shards(1000, seed=1).order.tolist() != nested_shards(1000, seed=2).order.tolist()


ORDER = [0, 3, 7, 5, 1, 2, 6, 4]


def test_shards_are_drawn_evenly():
    first = np.bincount([nested_shards(10, labels=np.arange(10) % 2, seed=s).order[0] for s in range(2000)])
    assert first.sum() == 2000 and np.abs(first - 200).max() < 5 * np.sqrt(200)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, "at least 1 example, got n=0"),
        ({"n": 2.5}, "got n=2.5"),
        ({"n": 10, "seed": -1}, "`seed` to be a whole number that is not negative, got -1"),
        ({"n": 10, "validation": 10}, "a number of examples below 10, got 10"),
        ({"n": 10, "validation": 2.5}, "a share below 1 or a number"),
        ({"n": 10, "validation": -1}, "got -1"),
        ({"n": 10, "validation": 0.01}, "leave examples on both sides, got 0.01 of 10"),
        ({"n": 10, "labels": [1, 2]}, "one class for each of 10 examples, got shape \\(2,\\)"),
        ({"n": 10, "labels": np.eye(10)}, "not one-hot rows"),
        ({"n": 10, "smallest": 11}, "`smallest` to be 1 to 10 examples, got 11"),
    ],
)
def test_shards_refuse_with_the_remedy(arguments, message):
    with pytest.raises(ValueError, match=message):
        nested_shards(**arguments)


@pytest.mark.parametrize("size", [0, 801, 2.5, True])
def test_a_shard_that_there_is_not_is_refused(size):
    shards = nested_shards(1000, validation=200, smallest=100)
    with pytest.raises(
        ValueError, match=r"1 to 800 training examples, got .*: the sizes .* 100, 200, 400, 800"
    ):
        shards.take(size)


# The data module


def rows(loader):
    """All examples of a loader, as a set of rows."""
    return {tuple(row.tolist()) for batch in loader for row in batch[0]}


def test_a_dataset_is_sharded_with_one_validation_set():
    data = points(100)
    labels = np.arange(100) % 4
    modules = [
        NestedShards(data, size, validation=20, labels=labels, seed=2, batch_size=8) for size in (10, 40, 80)
    ]
    assert modules[0].sizes == (1, 2, 5, 10, 20, 40, 80)
    trained, validated = (
        [rows(getattr(m, name)()) for m in modules] for name in ("train_dataloader", "val_dataloader")
    )
    assert [len(t) for t in trained] == [10, 40, 80] and trained[0] < trained[1] < trained[2]
    assert validated[0] == validated[1] == validated[2] and len(validated[0]) == 20
    assert not trained[2] & validated[0]
    reference = nested_shards(100, labels=labels, validation=20, seed=2)
    assert trained[1] == {tuple(data[i][0].tolist()) for i in reference.take(40)}


def test_labels_by_name_and_a_validation_set_of_its_own():
    data, other = points(64), TensorDataset(torch.zeros(3, 4), torch.zeros(3, 1))
    data.targets = torch.arange(64) % 2
    module = NestedShards(data, 16, validation=other, labels="targets", batch_size=4, drop_last=True)
    taken = module.train_dataloader().dataset.indices
    assert sum(i % 2 for i in taken) == 8 and max(taken) > 16
    assert rows(module.val_dataloader()) == {(0.0, 0.0, 0.0, 0.0)}
    assert len(module.train_dataloader()) == 4


def test_a_shard_smaller_than_a_batch_is_one_batch_that_the_monitor_can_count(tmp_path):
    pl = importlib.import_module(FLAVOURS[0])
    for data in (
        NestedShards(points(40), 5, validation=8, batch_size=16),
        NestedShards(make_datamodule(pl), 5),
    ):
        monitor = ScalingLawMonitor(fit=False)
        root = tmp_path / str(id(data))
        make_trainer(pl, root, [monitor], max_epochs=3).fit(make_module(pl), data)
        last = only_run(root).observations[-1].counts
        assert (last.samples, last.unique_samples, last.steps) == (15, 5, 3)


def make_datamodule(pl, **options):
    class Data(pl.LightningDataModule):
        prepared, moved = 0, 0

        def prepare_data(self):
            self.prepared += 1

        def setup(self, stage):
            self.stages = [*getattr(self, "stages", []), str(getattr(stage, "value", stage))]
            self.train, self.val = Subset(points(100), range(80)), Subset(points(100), range(80, 100))

        def train_dataloader(self):
            return DataLoader(self.train, **{"batch_size": 8, "shuffle": True, **options})

        def val_dataloader(self):
            return DataLoader(self.val, batch_size=20)

        def on_after_batch_transfer(self, batch, dataloader_idx):
            self.moved += 1
            return batch

    return Data()


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_data_module_is_trained_on_its_shard(tmp_path, flavour):
    pl = pytest.importorskip(flavour)
    inner = make_datamodule(pl)
    data = NestedShards(inner, 20, seed=1)
    with pytest.raises(RuntimeError, match="`setup` before `sizes`"):
        data.sizes  # noqa: B018
    monitor = ScalingLawMonitor(fit=False)
    trainer = make_trainer(pl, tmp_path, [monitor], max_epochs=2)
    trainer.fit(make_module(pl), data)
    assert data.sizes == (1, 2, 5, 10, 20, 40, 80)
    last = only_run(tmp_path).observations[-1].counts
    assert (last.samples, last.unique_samples, last.steps) == (40, 20, 6)
    assert inner.prepared == 1 and inner.stages == ["fit"] and inner.trainer is trainer
    assert inner.moved == 2 * 3 + 2 * 1
    reference = nested_shards(80, seed=1).take(20)
    assert rows(trainer.train_dataloader) == {tuple(points(100)[i][0].tolist()) for i in reference}
    assert trainer.validate(make_module(pl), data, verbose=False)


def test_the_loader_of_a_data_module_keeps_its_options():
    pl = importlib.import_module(FLAVOURS[0])
    collate = lambda rows: torch.utils.data.default_collate(rows)  # noqa: E731
    data = NestedShards(
        make_datamodule(pl, shuffle=False, collate_fn=collate, drop_last=True, batch_size=6), 20
    )
    data.setup("fit")
    loader = data.train_dataloader()
    assert loader.collate_fn is collate and loader.drop_last and loader.batch_size == 6 and len(loader) == 3
    assert type(loader.sampler).__name__ == "SequentialSampler"


class Stream(IterableDataset):
    def __iter__(self):
        return iter(range(3))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: NestedShards(Stream(), 2, validation=1), TypeError, "got an iterable dataset. Shards need"),
        (
            lambda: NestedShards(iter([1]), 2, validation=1),
            TypeError,
            "map-style dataset .* got list_iterator",
        ),
        (lambda: NestedShards(points(20), 5), ValueError, "Expected `validation` with a dataset"),
        (lambda: NestedShards(points(20), 5, validation=0), ValueError, "to hold out examples, got 0"),
        (lambda: NestedShards(points(20), 18, validation=4), ValueError, "1 to 16 training examples, got 18"),
        (
            lambda: NestedShards(points(20), 5, validation=4, labels="y"),
            ValueError,
            "classes in `y`, got Tensor",
        ),
        (
            lambda: NestedShards(points(20), 5, validation=4, labels=[1]),
            ValueError,
            "one class for each of 20",
        ),
        (
            lambda: NestedShards(
                points(20), 3, validation=4, batch_size=4, drop_last=True
            ).train_dataloader(),
            ValueError,
            "none of a shard of 3 with batches of 4",
        ),
    ],
)
def test_what_cannot_be_sharded_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dataset": Stream()}, "got an iterable dataset"),
        ({"sampler": WeightedRandomSampler([1.0] * 80, 80)}, "got one with WeightedRandomSampler"),
    ],
)
def test_a_data_module_that_cannot_be_sharded_is_refused(options, message):
    pl = importlib.import_module(FLAVOURS[0])

    class Data(pl.LightningDataModule):
        def train_dataloader(self):
            return DataLoader(**{"dataset": points(80), **options})

    with pytest.raises(TypeError, match=message):
        NestedShards(Data(), 2).setup("fit")
    Data.train_dataloader = lambda self: [1, 2]
    with pytest.raises(TypeError, match="one DataLoader, got list"):
        NestedShards(Data(), 2).setup("fit")
    with pytest.raises(ValueError, match="with a data module, got `batch_size`"):
        NestedShards(Data(), 2, batch_size=3)
    with pytest.raises(ValueError, match="with a data module, got `validation`"):
        NestedShards(Data(), 2, validation=0.1)
