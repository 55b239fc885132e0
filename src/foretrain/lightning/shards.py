"""NestedShards: a data module that trains on one shard of a training set, for learning curves over data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
)

from foretrain.lightning.host import host_classes
from foretrain.shards import Shards, nested_shards

if TYPE_CHECKING:
    from lightning.pytorch import LightningDataModule

    class HostDataModule(LightningDataModule):  # type: ignore[misc]
        """A data module of every Lightning that is installed."""
else:
    HostDataModule = type(
        "HostDataModule",
        host_classes("LightningDataModule"),
        {"__doc__": "A data module of every Lightning that is installed."},
    )

PASSED_ON = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer", "teardown")
"""Hooks of a wrapped data module that are its own business."""

REMEDY = (
    "Shards need examples that can be looked up by number: give a dataset with `__len__` and `__getitem__`, "
    "or write each shard to files of its own and stream those."
)


class NestedShards(HostDataModule):
    """Trains on a shard of a training set; shards are nested, and the validation set is always the same.

    Every shard is part of each larger one, and holds the classes in proportion where they are known. The same
    data, seed and size give the same examples on every machine.

    Args:
        data: A map-style dataset, or a data module whose training loader has one.
        size: Training examples in the shard.
        validation: What to validate on. Of a dataset: a share of it or a number of examples to hold out, or
            another dataset. A data module has its own, so it must be left out.
        labels: The class of each example of the training set, or the name of the dataset's attribute that
            holds them, such as "targets". By default classes are not looked at.
        seed: Of the order in which examples enter shards.
        **loader: Options of the loaders of a dataset, such as `batch_size` and `num_workers`. A data
            module's loader keeps its own.

    Attributes:
        shards: Which examples belong to which size; of a data module known after `setup`.

    Raises:
        TypeError: If the data cannot be looked up by number.
        ValueError: If another argument cannot be meant.

    Example::

        data = NestedShards(train_set, size=1024, validation=val_set, labels="targets", batch_size=32)
        trainer.fit(model, data)
    """

    def __init__(
        self,
        data: Any,
        size: int,
        *,
        validation: Any = None,
        labels: Sequence[Any] | str | None = None,
        seed: int = 0,
        **loader: Any,
    ) -> None:
        super().__init__()
        self.size = size
        self._labels, self._seed, self._loader = labels, seed, loader
        self._inner: Any = data if hasattr(data, "train_dataloader") else None
        self._data: Any = None
        self._validation: Any = None
        self._own_loader: Any = None
        self.shards: Shards | None = None
        if self._inner is not None:
            if validation is not None or loader:
                given = (
                    "`validation`" if validation is not None else ", ".join(f"`{name}`" for name in loader)
                )
                raise ValueError(
                    f"Expected only size, labels and seed with a data module, got {given}: "
                    "the data module's own loaders decide that."
                )
            for name in PASSED_ON:
                if getattr(type(data), name, None) is not getattr(HostDataModule, name, None):
                    setattr(self, name, getattr(data, name))
        else:
            self._choose(data, validation)

    def _choose(self, data: Any, validation: Any) -> None:
        """Decides which examples of a dataset are trained and validated on."""
        number = _length(data)
        if validation is None:
            raise ValueError(
                "Expected `validation` with a dataset: give a share or number of examples to hold out, or a "
                "dataset. A learning curve needs the same validation set for every shard."
            )
        held_out = validation if isinstance(validation, int | float) else 0
        self.shards = nested_shards(
            number, labels=_labels_of(data, self._labels), validation=held_out, seed=self._seed
        )
        if isinstance(validation, int | float):
            if not self.shards.validation.size:
                raise ValueError(
                    "Expected `validation` to hold out examples, got 0: give a share or a number."
                )
            self._validation = Subset(data, self.shards.validation.tolist())
        else:
            self._validation = validation
        self._data = Subset(data, self.shards.take(self.size).tolist())

    @property
    def sizes(self) -> tuple[int, ...]:
        """Sizes of the shards in powers of two, ascending.

        Raises:
            RuntimeError: If the data module has not been set up yet.
        """
        if self.shards is None:
            raise RuntimeError("Expected `setup` before `sizes`: the wrapped data module has no dataset yet.")
        return self.shards.sizes

    def prepare_data(self) -> None:
        """As the wrapped data module does."""
        if self._inner is not None:
            self._inner.prepare_data()

    def setup(self, stage: str) -> None:
        """Sets up the wrapped data module, and takes its training set apart."""
        if self._inner is None:
            return
        self._inner.trainer = self.trainer
        self._inner.setup(stage)
        if str(getattr(stage, "value", stage)) != "fit":
            return
        self._own_loader = self._inner.train_dataloader()
        data = _dataset_of(self._own_loader)
        number = _length(data)
        self.shards = nested_shards(number, labels=_labels_of(data, self._labels), seed=self._seed)
        self._data = Subset(data, self.shards.take(self.size).tolist())

    def train_dataloader(self) -> Any:
        """The shard's loader; shuffles."""
        if self._own_loader is None:
            options = {"shuffle": True, **self._loader}
            # The monitor knows distinct samples only where batches are as large as the loader says.
            if not options.get("drop_last") and isinstance(options.get("batch_size"), int):
                options["batch_size"] = min(options["batch_size"], len(self._data))
            return _checked(DataLoader(self._data, **options), self.size)
        return _checked(_like(self._own_loader, self._data), self.size)

    def val_dataloader(self) -> Any:
        """The validation set's loader, whatever the shard."""
        if self._inner is not None:
            return self._inner.val_dataloader()
        kept = {name: value for name, value in self._loader.items() if name not in ("shuffle", "drop_last")}
        return DataLoader(self._validation, **kept)

    def test_dataloader(self) -> Any:
        """The wrapped data module's."""
        return self._inner.test_dataloader() if self._inner is not None else super().test_dataloader()

    def predict_dataloader(self) -> Any:
        """The wrapped data module's."""
        return self._inner.predict_dataloader() if self._inner is not None else super().predict_dataloader()


def _length(data: Any) -> int:
    """How many examples a map-style dataset has.

    Raises:
        TypeError: If it is none.
    """
    if isinstance(data, IterableDataset) or not hasattr(data, "__getitem__") or not hasattr(data, "__len__"):
        kind = "an iterable dataset" if isinstance(data, IterableDataset) else type(data).__name__
        raise TypeError(f"Expected a map-style dataset or a data module with one, got {kind}. {REMEDY}")
    return len(data)


def _labels_of(data: Any, labels: Any) -> Any:
    if not isinstance(labels, str):
        return None if labels is None else np.asarray(labels)
    found = getattr(data, labels, None)
    if found is None:
        raise ValueError(
            f"Expected the dataset to have its classes in `{labels}`, got {type(data).__name__} without: "
            "pass the classes themselves as `labels`."
        )
    return np.asarray(found)


def _dataset_of(loader: Any) -> Dataset[Any]:
    """The dataset of a loader that can be made anew with a part of it."""
    if not isinstance(loader, DataLoader):
        raise TypeError(
            f"Expected the data module's training loader to be one DataLoader, got {type(loader).__name__}: "
            "give the dataset itself."
        )
    _length(loader.dataset)
    plain = type(loader.sampler) in (RandomSampler, SequentialSampler)
    if not plain or type(loader.batch_sampler) not in (BatchSampler, type(None)):
        odd = loader.batch_sampler if plain else loader.sampler
        raise TypeError(
            f"Expected a training loader that shuffles or keeps the order, got one with "
            f"{type(odd).__name__}: what it draws from a shard is not known; give the dataset itself."
        )
    dataset: Dataset[Any] = loader.dataset
    return dataset


def _like(loader: Any, data: Any) -> Any:
    """A loader of other data with the same options."""
    names = (
        "num_workers",
        "collate_fn",
        "pin_memory",
        "timeout",
        "worker_init_fn",
        "multiprocessing_context",
    )
    options = {name: getattr(loader, name) for name in names}
    if loader.num_workers:
        options["prefetch_factor"] = loader.prefetch_factor
    return DataLoader(
        data,
        batch_size=loader.batch_size if loader.drop_last else min(loader.batch_size, len(data)),
        shuffle=isinstance(loader.sampler, RandomSampler),
        drop_last=loader.drop_last,
        generator=loader.generator,
        persistent_workers=loader.persistent_workers,
        **options,
    )


def _checked(loader: Any, size: int) -> Any:
    if len(loader) == 0:
        raise ValueError(
            f"Expected at least one batch, got none of a shard of {size} with batches of "
            f"{loader.batch_size} and `drop_last`: use smaller batches, or keep the last one."
        )
    return loader
