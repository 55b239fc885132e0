"""The names under which a monitor's scalars and reports are logged, among the other monitors of a Trainer."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from foretrain.lightning.settings import Settings

ROOT = "scaling/"
_DIFFERENT = ("monitor", "study", "axis")


@dataclass(frozen=True)
class Names:
    """Where what one monitor says is found in a logger.

    Attributes:
        prefix: Start of the names of its scalars: "scaling/", or "scaling/<name>/" among several monitors.
        report: What follows the metric in the tag of its reports, where other monitors report on the same
            metric; else empty.
    """

    prefix: str = ROOT
    report: str = ""

    def of(self, scalars: Mapping[str, float]) -> dict[str, float]:
        """Scalars under the names that they have among several monitors."""
        return {self.prefix + name.removeprefix(ROOT): value for name, value in scalars.items()}


def name_among(own: Settings, monitors: Sequence[Settings]) -> Names:
    """The names of one monitor's scalars and reports.

    A monitor that is given a `name` has it in them. One that is alone, or the only one without a name, has
    none. Others are named by the first of metric, study and axis in which all that have no name differ, and
    if there is none, by their number among these.

    Args:
        own: The monitor, one of `monitors`.
        monitors: All monitors of the Trainer, in its order.
    """
    label = own.name
    unnamed = [monitor for monitor in monitors if monitor.name is None]
    if label is None and len(unnamed) > 1:
        number = next((i for i, monitor in enumerate(unnamed, 1) if monitor is own), 0)
        label = str(number)
        for part in _DIFFERENT:
            values = [str(getattr(monitor, part)) for monitor in unnamed]
            if len(set(map(_plain, values))) == len(values):
                label = str(getattr(own, part))
                break
    if label is None:
        return Names()
    same = [monitor for monitor in monitors if monitor.transform.name == own.transform.name]
    return Names(f"{ROOT}{_plain(label)}/", f" ({label})" if len(same) > 1 else "")


def _plain(label: str) -> str:
    """A text in the letters that every logger accepts in a name."""
    return re.sub(r"[^A-Za-z0-9_./-]+", "_", label).strip("/") or "_"
