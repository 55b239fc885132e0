"""The monitored metric as Lightning has published it: whether it was logged since, and its value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor


def published(trainer: Any) -> Mapping[str, Any]:
    """The metrics that callbacks may monitor, as of the last validation, batch or epoch that ended.

    `trainer.callback_metrics` would also compute those of the loop under way, and with `sync_dist` reduce
    them between processes: read in one process alone, it could wait for the others for ever.
    """
    try:
        metrics: Mapping[str, Any] = trainer._logger_connector._callback_metrics
    except AttributeError:  # private, so it may go
        metrics = trainer.callback_metrics
    return metrics


def logged_by_step(trainer: Any, name: str) -> bool:
    """Whether a metric was logged by step alone: loggers have it, callbacks may not monitor it."""
    logged = getattr(getattr(trainer, "_logger_connector", None), "_logged_metrics", {})
    return name in logged and name not in published(trainer)


class MetricWatch:
    """Tells a value that was logged from one that is still there from before.

    Lightning keeps the last value of every metric, and publishes each fresh one as a tensor of its own, be it
    equal to the last; an old one it may publish again as another view of the same memory. A number that is no
    tensor was put there by the user, and is taken to be fresh.

    Args:
        name: Name of the metric.

    Attributes:
        value: What there was of it at the last look; None where it was not there.
        names: The metrics that were there.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self.value: Any = None
        self.names: tuple[str, ...] = ()

    def note(self, trainer: Any) -> None:
        """Looks at the metric as it is now."""
        metrics = published(trainer)
        self.value, self.names = metrics.get(self._name), tuple(metrics)

    def renewed(self, trainer: Any) -> bool:
        """Whether the metric was logged since the last look."""
        before = self.value
        self.note(trainer)
        return self.value is not None and not _same(self.value, before)


def _same(value: Any, before: Any) -> bool:
    """Whether two values are one. While the earlier is kept, nothing else can have its memory."""
    if not (isinstance(value, Tensor) and isinstance(before, Tensor)):
        return False
    return value is before or (value.data_ptr() == before.data_ptr() != 0)
