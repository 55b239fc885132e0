"""Iterative magnitude pruning with rewinding through Lightning, and the networks that are pruned."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import prune
from torch.utils.data import DataLoader, Dataset

from foretrain.shards import nested_shards
from study_command import be_quiet

METRIC = "test_error"
CLASSES = 10


@dataclass(frozen=True)
class Rounds:
    """How often a network is trained and pruned, and how long it is trained.

    Attributes:
        densities: How many densities there are, the unpruned network's among them.
        kept: Share of the remaining weights that is kept from one density to the next.
        steps: Optimizer steps of a training from the start.
        looks: Validations in them.
        early: Steps after which the weights are kept to be rewound to: every training but the first begins
            there.
    """

    densities: int = 12
    kept: float = 0.6
    steps: int = 384
    looks: int = 8
    early: int = 48


class Network(pl.LightningModule):
    """Layers of rectified units of one width, trained by Adam at a rate that falls to zero.

    Args:
        inputs: Pixels.
        width: Units in each hidden layer.
        depth: Hidden layers.
        steps: Optimizer steps of a training from the start.
        rate: Learning rate at its start.

    Attributes:
        begins: The step of that training at which this one begins: that of its learning rate.
    """

    def __init__(self, inputs: int, width: int, depth: int, steps: int, rate: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for place in range(depth):
            layers += [nn.Linear(width if place else inputs, width), nn.ReLU()]
        self.net = nn.Sequential(*layers, nn.Linear(width, CLASSES))
        self.steps, self.rate, self.begins = steps, rate, 0

    @property
    def prunable(self) -> list[tuple[nn.Module, str]]:
        """The weights that may be pruned, which biases are not."""
        return [(layer, "weight") for layer in self.net if isinstance(layer, nn.Linear)]

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Cross entropy."""
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Logs the share of digits that are taken for another."""
        wrong = (self.net(batch[0]).argmax(1) != batch[1]).float().mean()
        self.log(METRIC, wrong, batch_size=len(batch[1]))

    def configure_optimizers(self) -> Any:
        """Adam, its rate falling in a line."""
        optimizer = torch.optim.Adam(self.parameters(), lr=self.rate)
        falling = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: 1 - (self.begins + step) / self.steps
        )
        return [optimizer], [{"scheduler": falling, "interval": "step"}]


class KeepEarly(pl.Callback):
    """Keeps the weights that a training has after some steps.

    Args:
        step: How many.

    Attributes:
        weights: Weights and biases by name; empty until then, and the same ever after.
    """

    def __init__(self, step: int) -> None:
        self.step, self.weights = step, dict[str, Tensor]()

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keeps them once the step is done."""
        if not self.weights and trainer.global_step == self.step:
            self.weights = {name: one.detach().clone() for name, one in pl_module.named_parameters()}


def prune_and_rewind(network: Network, kept: float, early: Mapping[str, Tensor]) -> None:
    """Prunes the smallest weights of all layers together, and gives the others their early values.

    Args:
        network: The network, trained; it gets the masks of `torch.nn.utils.prune`.
        kept: Share of the weights left that is kept.
        early: Its parameters at an early step, by name.
    """
    prune.global_unstructured(network.prunable, pruning_method=prune.L1Unstructured, amount=1 - kept)
    with torch.no_grad():
        for name, one in network.named_parameters():
            one.copy_(early[name.removesuffix("_orig")])


class Digits(Dataset[Any]):
    """Images with labels, taken a batch at a time."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> Any:
        return self.x[index], self.y[index]

    def __getitems__(self, indices: list[int]) -> Any:
        return self.x[indices], self.y[indices]


def as_it_is(batch: Any) -> Any:
    """A batch that needs no collating."""
    return batch


@lru_cache(maxsize=1)
def read_digits(path: str | None, most: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pixels from -1 to 1 and labels, to train on in nested shards and to count errors; all there are."""
    if path is None:
        from sklearn.datasets import load_digits

        pixels, labels = load_digits(return_X_y=True)
        small = torch.tensor(pixels.reshape(-1, 1, 8, 8) / 8 - 1, dtype=torch.float32)
        images = nn.functional.interpolate(small, size=(16, 16), mode="bilinear").numpy()
    else:
        with np.load(path) as arrays:
            images = np.concatenate([arrays["x_train"], arrays["x_test"]]) / 127.5 - 1
            labels = np.concatenate([arrays["y_train"], arrays["y_test"]])
    split = nested_shards(len(labels), labels=labels, validation=len(labels) - most)
    x = torch.tensor(images, dtype=torch.float32).flatten(1)
    y = torch.tensor(np.asarray(labels).astype(np.int64))
    return x[split.order], y[split.order], x[split.validation], y[split.validation]


def runs_of(run: str, rounds: Rounds) -> list[str]:
    """Names of the runs of a point, from the network unpruned to its sparsest, which has the point's name."""
    return [*(f"{run}_round-{number:02d}" for number in range(rounds.densities - 1)), run]


def count_weights(inputs: int, width: int, depth: int) -> int:
    """Weights of a network that may be pruned."""
    return inputs * width + (depth - 1) * width**2 + width * CLASSES


def prune_network(
    config: dict[str, Any],
    digits: Sequence[Tensor],
    monitor: Callable[[str], Any],
    *,
    batch: int,
    rate: float,
) -> None:
    """Trains and prunes one network, round after round, each a fit of a Trainer of its own.

    After Frankle et al. 2020 (arXiv:1912.05671): iterative magnitude pruning with weights rewound.

    Args:
        config: `size` is the width; `depth`, `data`, `seed`, `rounds` as the fields of `Rounds`, and `run`.
        digits: As `read_digits` gives them.
        monitor: Makes a ScalingLawMonitor for a run of a name. The last and sparsest has the name of the
            point, which is finished with it.
        batch: Digits in a batch, of which `data` holds a whole number.
        rate: Learning rate at the start.
    """
    be_quiet()
    x, y, test_x, test_y = digits
    rounds, epoch = Rounds(**config["rounds"]), config["data"] // batch
    look = rounds.steps // rounds.looks
    if look % epoch or config["data"] % batch or rounds.early % look:
        raise ValueError(
            "Expected whole batches in an epoch, whole epochs in a look and whole looks to the early step, "
            f"got {config['data']} digits in batches of {batch}, {look} steps in a look and the early step "
            f"{rounds.early}."
        )
    torch.manual_seed(config["seed"])
    network = Network(x.shape[1], config["size"], config["depth"], rounds.steps, rate)
    train, test = Digits(x[: config["data"]], y[: config["data"]]), Digits(test_x, test_y)
    keeper = KeepEarly(rounds.early)
    for name in runs_of(config["run"], rounds):
        trainer = pl.Trainer(
            accelerator="cpu",
            max_epochs=-1,
            max_steps=rounds.steps - network.begins,
            check_val_every_n_epoch=look // epoch,
            callbacks=[keeper, monitor(name)],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        trainer.fit(
            network,
            DataLoader(train, batch, shuffle=True, collate_fn=as_it_is),
            DataLoader(test, len(test), collate_fn=as_it_is),
        )
        if name != config["run"]:
            prune_and_rewind(network, rounds.kept, keeper.weights)
            network.begins = rounds.early
