"""How large a model is: its parameters by kind, and what pruning masks have left of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import Embedding, EmbeddingBag, Module, Parameter
from torch.nn.parameter import is_lazy


@dataclass(frozen=True)
class ModelSize:
    """Parameters of a model, tied ones counted once.

    Attributes:
        trainable: Those that require a gradient.
        total: All, frozen ones included.
        non_embedding: All that are not in an `Embedding` or `EmbeddingBag` alone: one that an output layer
            shares is in. Position embeddings held as a bare `Parameter` cannot be told from other weights.
        non_embedding_trainable: Those of them that require a gradient.
    """

    trainable: int
    total: int
    non_embedding: int
    non_embedding_trainable: int

    def or_earlier(self, earlier: ModelSize | None) -> ModelSize:
        """The size that is that of the whole model: the later one unless a process holds a shard by then."""
        return self if earlier is None or self.total >= earlier.total else earlier


def count_parameters(module: Module) -> ModelSize | None:
    """The parameters of a module and all modules in it; None while some are not yet made."""
    modules = list(module.modules())
    embeddings = [part for part in modules if isinstance(part, Embedding | EmbeddingBag)]
    # With what is in them: a parametrized weight is held by a module below its embedding.
    inside = {id(part) for embedding in embeddings for part in embedding.modules()}
    elsewhere: set[int] = set()
    for part in modules if embeddings else ():
        if id(part) not in inside:
            elsewhere.update(map(id, part._parameters.values()))
    trainable = total = whole = whole_trainable = 0
    for parameter in module.parameters():
        if is_lazy(parameter):
            return None
        size = _size(parameter)
        counts = not embeddings or id(parameter) in elsewhere
        total += size
        whole += size if counts else 0
        if parameter.requires_grad:
            trainable += size
            whole_trainable += size if counts else 0
    return ModelSize(trainable, total, whole, whole_trainable)


def _size(parameter: Parameter) -> int:
    # DeepSpeed's shards know the whole.
    return int(getattr(parameter, "ds_numel", 0) or parameter.numel())


def density(module: Module, total: int | None) -> float | None:
    """The fraction of a model's parameters that the masks of `torch.nn.utils.prune` have left.

    Waits for the device, once, if there are masks.

    Args:
        module: The model.
        total: All its parameters.

    Returns:
        The fraction; None where nothing is masked, as before pruning and once it was made permanent, or where
        the masks are more than the parameters known.
    """
    masked, kept = 0, None
    seen: set[int] = set()
    for part in module.modules():
        for name, mask in part._buffers.items():
            if mask is None or not name.endswith("_mask"):
                continue
            weight = part._parameters.get(f"{name.removesuffix('_mask')}_orig")
            if weight is None or weight.shape != mask.shape or id(weight) in seen:
                continue
            seen.add(id(weight))
            masked += mask.numel()
            count = _kept(mask)
            kept = count if kept is None else kept + count.to(kept.device)
    if kept is None or not total or masked > total:
        return None
    return (total - masked + int(kept)) / total


def _kept(mask: Tensor) -> Tensor:
    return mask.count_nonzero().to(torch.int64)
