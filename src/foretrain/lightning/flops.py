"""Training compute: by a formula from parameters and data, or as torch counts it on one batch."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from foretrain.axes import Counts
from foretrain.lightning.counting import BatchCounter
from foretrain.lightning.parameters import ModelSize
from foretrain.lightning.settings import MEASURED, Settings

FORWARD, ACTIVATIONS, WEIGHTS = 2, 2, 2
"""FLOPs for a parameter and a token in the three products of a step: the forward pass, and in the backward
pass the gradients of activations and of weights. Kaplan et al. 2020, arXiv:2001.08361, section 2.1."""

MEASURED_BATCH = 2  # the first one may build, compile or warm up


def training_flops(
    settings: Settings, counts: Counts, size: ModelSize | None, measured: float | None
) -> float | None:
    """FLOPs of training so far, or as planned; None where unknown.

    By default `6 N D`. Weights that are frozen have no gradients of their own, but gradients pass through
    them to what lies below: `(4 N_total + 2 N_trainable) D`. Where nothing below them is trained, as under a
    new head on a frozen model, that is up to twice what is computed.

    Args:
        settings: What the user asked for.
        counts: What was used.
        size: The model.
        measured: FLOPs of one sample, where they were measured.
    """
    if settings.flops_per_sample is not None:
        each = measured if settings.flops_per_sample == MEASURED else settings.flops_per_sample
        return None if each is None else float(each) * counts.samples
    used = counts.samples if counts.tokens is None else counts.tokens
    if counts.params is None or not used:
        return None
    if size is None or (total := _total(settings, size)) is None or not (frozen := _frozen(settings, size)):
        return float((FORWARD + ACTIVATIONS + WEIGHTS) * counts.params * used)
    return float(((FORWARD + ACTIVATIONS) * total + WEIGHTS * (total - frozen)) * used)


def flops_rule(settings: Settings, tokens: str) -> str:
    """How FLOPs are counted, by name: the same for a model whether or not some of it is frozen for now.

    Args:
        settings: What the user asked for.
        tokens: What the parameters are multiplied with, "tokens" or "samples".
    """
    if settings.flops_per_sample == MEASURED:
        return f"torch counter, batch {MEASURED_BATCH}"
    if settings.flops_per_sample is not None:
        return "flops_per_sample"
    return f"6 * params * {tokens}"


def _total(settings: Settings, size: ModelSize) -> int | None:
    """The parameters that compute, where they are what we counted."""
    if settings.model_size in (None, "trainable", "total"):
        return size.total
    return size.non_embedding if settings.model_size == "non_embedding" else None


def _frozen(settings: Settings, size: ModelSize) -> int:
    if settings.model_size == "non_embedding":
        return size.non_embedding - size.non_embedding_trainable
    return size.total - size.trainable


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sums up what torch's own formulas say of every operation, which it passes on as it is.

    Torch's `FlopCounterMode` raises where a formula does not fit an operation, in the middle of the user's
    training step, and adds hooks to every module.
    """

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        from torch.utils.flop_counter import flop_registry  # here, where its absence harms nothing

        self._formulas = flop_registry
        self.flops = 0
        self.failed: str | None = None

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        packet = getattr(func, "_overloadpacket", None)
        formula = self._formulas.get(packet) or self._formulas.get(_NAMED_ALIKE.get(str(packet)))
        if formula is not None:
            try:
                self.flops += int(formula(*args, **kwargs, out_val=result))
            except Exception:  # such as heads that share keys
                self.failed = self.failed or str(packet)
        return result


_NAMED_ALIKE = {
    f"aten._scaled_dot_product_flash_attention_for_cpu{end}": getattr(
        torch.ops.aten, f"_scaled_dot_product_flash_attention{end}", None
    )
    for end in ("", "_backward")
}
"""Attention on the CPU, for which torch has no formulas of its own."""


class FlopMeter:
    """Counts the FLOPs of one training batch by torch's formulas, and holds the counter meanwhile.

    The counter is a dispatch mode: it sees every operation of this thread and of its backward pass, and is
    left again after the batch, also when it failed. Activations that are computed twice, to save memory,
    count twice. What torch has no formula for, such as a kernel of the user's, counts nothing.
    """

    def __init__(self) -> None:
        self._mode: _Counter | None = None

    def enter(self, trainer: Any, module: Any, counter: BatchCounter) -> None:
        """Begins to count, if the batch to come is the one that is measured."""
        self.leave()  # of a batch that was skipped
        if counter.batches != MEASURED_BATCH - 1:
            return
        if (why := _why_not(trainer, module, counter)) is not None:
            _say(counter, why)
            return
        mode = _Counter()
        mode.__enter__()  # type: ignore[no-untyped-call]
        self._mode = mode

    def leave(self) -> _Counter | None:
        """Ends counting; what counted, or None where nothing was under way."""
        mode, self._mode = self._mode, None
        if mode is not None:
            mode.__exit__(None, None, None)  # type: ignore[no-untyped-call]
        return mode

    def finish(self, counter: BatchCounter) -> bool:
        """Ends counting after a batch, which the counter has counted, and tells it the FLOPs of a sample.

        Returns:
            Whether there is nothing more to measure.
        """
        mode = self.leave()
        if mode is None:
            return counter.batches >= MEASURED_BATCH
        samples = counter.last
        if mode.failed:
            _say(counter, f"torch's formula for {mode.failed} does not fit what the model does")
        elif not samples or not mode.flops:
            _say(counter, "nothing was counted in the batch")
        else:
            counter.flops_per_sample = mode.flops / samples
        return True


def _why_not(trainer: Any, module: Any, counter: BatchCounter) -> str | None:
    if _processes(trainer) != counter.processes:
        return "several processes share the model"
    for part in module.modules():
        compiled = getattr(part, "_compiled_call_impl", None) or getattr(part, "_compiler_ctx", None)
        if compiled is not None or type(part).__name__ == "OptimizedModule":
            return "the model is compiled"
    return None


def _say(counter: BatchCounter, why: str) -> None:
    counter.faults.setdefault(
        "flops",
        f"ScalingLawMonitor cannot measure FLOPs ({why}): they are unknown in this run. Pass a number as "
        "`flops_per_sample`, or leave it out to have them estimated from the parameters.",
    )


def _processes(trainer: Any) -> int:
    return int(trainer.world_size)
