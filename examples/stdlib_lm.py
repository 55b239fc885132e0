"""An ordinary Lightning project: byte-level language models of Python source text. No foretrain in here.

The text is the standard library of the interpreter at hand: real text, over 10 MB, needing no download. It is
split by file into training and validation, so no validation window was ever trained on.
"""

from __future__ import annotations

import hashlib
import sysconfig
from pathlib import Path

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningDataModule, LightningModule
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

WINDOW = 64
VALIDATION_SHARE = 20  # one file in so many is held out
HEAD_WIDTH = 8
MIN_BYTES = 4_000_000


def read_sources(root: Path | None = None) -> tuple[bytes, bytes]:
    """The training and the validation text: every `.py` file of the standard library, split by file name.

    Raises:
        RuntimeError: If there is too little text, as where Python was installed without its sources.
    """
    root = root or Path(sysconfig.get_paths()["stdlib"])
    train, validation = [], []
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root)
        if "site-packages" in name.parts or "dist-packages" in name.parts:
            continue
        held_out = int(hashlib.sha256(name.as_posix().encode()).hexdigest(), 16) % VALIDATION_SHARE == 0
        (validation if held_out else train).append(path.read_bytes())
    texts = b"\n".join(train), b"\n".join(validation)
    if len(texts[0]) < MIN_BYTES:
        raise RuntimeError(
            f"Expected at least {MIN_BYTES / 1e6:g} MB of Python source under {root}, found "
            f"{len(texts[0]) / 1e6:.1f} MB: use a Python installed with its standard library's sources."
        )
    return texts


class Windows(Dataset[Tensor]):
    """Windows of a text, one byte longer than what a model sees at once, not overlapping."""

    def __init__(self, text: bytes, limit: int | None = None) -> None:
        data = torch.frombuffer(bytearray(text), dtype=torch.uint8)
        windows = data[: len(data) // (WINDOW + 1) * (WINDOW + 1)].view(-1, WINDOW + 1)
        if limit is not None and limit < len(windows):  # evenly spread over the files
            windows = windows[torch.linspace(0, len(windows) - 1, limit).long()]
        self.windows = windows

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, index: int) -> Tensor:
        return self.windows[index]

    def __getitems__(self, indices: list[int]) -> Tensor:
        """A whole batch at once, which the data loader asks for where it can."""
        return self.windows[torch.tensor(indices)]


class SourceText(LightningDataModule):
    """Batches of shape (batch, WINDOW + 1), bytes."""

    def __init__(self, batch_size: int = 32, validation_windows: int = 512) -> None:
        super().__init__()
        train, validation = read_sources()
        self.batch_size = batch_size
        self.train, self.validation = Windows(train), Windows(validation, validation_windows)

    def train_dataloader(self) -> DataLoader[Tensor]:
        return DataLoader(
            self.train, self.batch_size, shuffle=True, collate_fn=torch.as_tensor, drop_last=True
        )

    def val_dataloader(self) -> DataLoader[Tensor]:
        return DataLoader(self.validation, 256, collate_fn=torch.as_tensor)


class Block(nn.Module):
    """Causal self-attention and a two-layer perceptron, each behind a layer norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = width // HEAD_WIDTH
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.up, self.down = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)
        for layer, scale in ((self.out, 0.5), (self.down, 0.5)):
            nn.init.normal_(layer.weight, std=(scale / layer.in_features) ** 0.5)
        for layer in (self.query_key_value, self.up):
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        mixed = self.query_key_value(self.norm_attention(x))
        query, key, value = mixed.view(batch, length, 3, self.heads, HEAD_WIDTH).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(attended.transpose(1, 2).reshape(batch, length, width))
        return x + self.down(F.gelu(self.up(self.norm_mlp(x))))


class ByteLM(LightningModule):
    """A one-layer transformer over bytes; `width` sets its size, and its learning rate falls with it."""

    def __init__(self, width: int, learning_rate: float | None = None, warmup: int = 100) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.learning_rate = 0.09 / width**0.75 if learning_rate is None else learning_rate
        self.warmup = warmup
        self.byte, self.place = nn.Embedding(256, width), nn.Embedding(WINDOW, width)
        for table in (self.byte, self.place):
            nn.init.normal_(table.weight, std=width**-0.5)
        self.block, self.norm = Block(width), nn.LayerNorm(width)
        self.next_byte = nn.Linear(width, 256, bias=False)
        nn.init.zeros_(self.next_byte.weight)

    def size(self) -> int:
        """Parameters that multiply at every byte: the block and the head, without the embedding tables.

        Tables that are only looked up would add a share that changes with the width. The head computes:
        without it small models look smaller than they act, and the law of size bends (Porian et al. 2024).
        """
        return sum(p.numel() for part in (self.block, self.next_byte) for p in part.parameters())

    def loss(self, windows: Tensor) -> Tensor:
        """Mean cross-entropy of the next byte, in nats."""
        windows = windows.long()
        x = self.byte(windows[:, :-1]) + self.place.weight
        logits = self.next_byte(self.norm(self.block(x)))
        return F.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self.loss(batch)

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.log("val_loss", self.loss(batch), batch_size=len(batch))

    def configure_optimizers(self) -> dict:
        optimizer = torch.optim.AdamW(
            self.parameters(), self.learning_rate, betas=(0.9, 0.95), weight_decay=0.0
        )
        warmup = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / self.warmup))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": warmup, "interval": "step"}}
