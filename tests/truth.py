"""What a training run really used, found without our counting: from what was handed out and trained on."""

from dataclasses import dataclass

import torch
from torch.utils.data import Dataset, IterableDataset

from lightning_models import make_trainer

WIDTH = 4
LENGTH = 6  # positions of a text


class Numbered(Dataset):
    """Samples that carry their own number, and a log, in shared memory, of those handed out.

    The number is the first column of `x`. As texts, the i-th has 1 + i % LENGTH tokens, of which none is 0.
    """

    def __init__(self, n, *, start=0, texts=False):
        self.start, self.texts = start, texts
        self.handed = torch.zeros(n, dtype=torch.int64).share_memory_()

    def __len__(self):
        return len(self.handed)

    def __getitem__(self, index):
        self.handed[index] += 1
        number = self.start + int(index)
        x = torch.full((WIDTH,), float(number))
        if not self.texts:
            return x, torch.zeros(1)
        real = torch.arange(LENGTH) < 1 + number % LENGTH
        return {"input_ids": torch.full((LENGTH,), 1 + number) * real, "attention_mask": real.long(), "x": x}


class Stream(IterableDataset):
    """The samples of a `Numbered` one after the other, without a length."""

    def __init__(self, n, **options):
        self.data = Numbered(n, **options)

    def __iter__(self):
        return (self.data[index] for index in range(len(self.data)))


@dataclass
class Pack:
    """A batch as a dataclass."""

    label: torch.Tensor
    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    x: torch.Tensor


def tensors(batch):
    """Every tensor in a batch, with its name where it has one."""
    if isinstance(batch, torch.Tensor):
        yield None, batch
    elif isinstance(batch, Pack):
        yield from vars(batch).items()
    elif isinstance(batch, dict):
        for name, item in batch.items():
            yield from ((name, found) if inner is None else (inner, found) for inner, found in tensors(item))
    elif isinstance(batch, list | tuple):
        for item in batch:
            yield from tensors(item)


def inputs(batch):
    """The rows of numbers in a batch."""
    found = [x for _, x in tensors(batch)]
    return [x.reshape(-1, WIDTH) for x in found if x.is_floating_point() and x.shape[-1:] == (WIDTH,)]


def make_truth(pl):
    """A callback that adds up what is trained on, and notes it at each validation of a fit."""

    class Truth(pl.Callback):
        def __init__(self):
            self.samples = self.tokens = self.steps = self.fits = self.whole = 0
            self.seen, self.noted, self.wholes, self._hooked, self._passes = set(), [], {}, set(), {}

        def on_train_start(self, trainer, module):
            self.fits += 1
            for optimizer in trainer.optimizers:
                if id(optimizer) not in self._hooked:
                    self._hooked.add(id(optimizer))
                    optimizer.register_step_post_hook(self._stepped)

        def _stepped(self, *_):
            self.steps += 1

        def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
            for x in inputs(batch):
                numbers = [int(row[0]) for row in x]
                self.samples += len(numbers)
                self.seen.update(numbers)
                one_pass = self._passes.setdefault((self.fits, trainer.current_epoch), set())
                one_pass.update(numbers)
                self.whole = max(self.whole, len(one_pass))  # seen in one epoch of one process
            for name, ids in tensors(batch):
                if name == "input_ids":
                    self.tokens += sum(token != 0 for token in ids.flatten().tolist())

        def on_validation_end(self, trainer, module):
            if not trainer.sanity_checking and trainer.state.fn == "fit":
                self.noted.append((self.steps, self.samples, self.tokens, len(self.seen)))
                self.wholes[self.steps] = self.whole

    return Truth()


def make_reader(pl, *, optimizers=1, skip=None):
    """A module that takes any batch of numbered samples; at batch `skip` it skips the rest of an epoch."""

    class Reader(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.automatic_optimization = optimizers == 1
            self.net = torch.nn.Linear(WIDTH, 1)

        def loss(self, batch):
            return sum((self.net(x / 100) ** 2).mean() for x in inputs(batch))

        def on_train_batch_start(self, batch, batch_idx):
            return -1 if batch_idx == skip else None

        def training_step(self, batch, batch_idx):
            if optimizers == 1:
                return self.loss(batch)
            # The first steps at every batch, the others by turns.
            chosen = self.optimizers()
            for optimizer in (chosen[0], chosen[1 + batch_idx % (optimizers - 1)]):
                self.toggle_optimizer(optimizer)
                optimizer.zero_grad()
                self.manual_backward(self.loss(batch))
                optimizer.step()
                self.untoggle_optimizer(optimizer)
            return None

        def validation_step(self, batch, batch_idx):
            self.log("val_loss", self.loss(batch) + 1)

        def configure_optimizers(self):
            made = [torch.optim.SGD(self.parameters(), 0.01) for _ in range(optimizers)]
            return made[0] if optimizers == 1 else made

    return Reader()


def train(pl, root, monitor, train_loader, *, truth=None, module=None, callbacks=(), **options):
    """Trains, and gives what was noted at each validation."""
    truth = truth or make_truth(pl)
    ckpt_path = options.pop("ckpt_path", None)
    trainer = make_trainer(pl, root, [truth, monitor, *callbacks], **options)
    val = torch.utils.data.DataLoader(Numbered(2), 2)
    trainer.fit(module or make_reader(pl), train_loader, val, ckpt_path=ckpt_path)
    return truth
