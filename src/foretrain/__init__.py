"""foretrain: scaling laws tracked during ordinary training. Loads no framework."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from foretrain.decisions import Planner, compute_multiplier
    from foretrain.fitting import fit
    from foretrain.flagging.replay import flag_run
    from foretrain.flags import Flag
    from foretrain.frontier import fit_growth
    from foretrain.laws import LAWS
    from foretrain.projection import Forecast, forecast, forecast_joint
    from foretrain.regions import label_regions
    from foretrain.resampling import resample_curve, resample_joint
    from foretrain.runs.projection import forecast_run

__version__ = "0.1.0.dev0"
__all__ = [
    "LAWS",
    "Flag",
    "Forecast",
    "Planner",
    "__version__",
    "compute_multiplier",
    "fit",
    "fit_growth",
    "flag_run",
    "forecast",
    "forecast_joint",
    "forecast_run",
    "label_regions",
    "resample_curve",
    "resample_joint",
]

_HOMES = {
    "Flag": "flags",
    "Forecast": "projection",
    "LAWS": "laws",
    "Planner": "decisions",
    "compute_multiplier": "decisions",
    "fit": "fitting",
    "fit_growth": "frontier",
    "flag_run": "flagging.replay",
    "forecast": "projection",
    "forecast_joint": "projection",
    "forecast_run": "runs.projection",
    "label_regions": "regions",
    "resample_curve": "resampling",
    "resample_joint": "resampling",
}


def __getattr__(name: str) -> Any:
    """Loads the numerical core at first use, so that `import foretrain` alone costs a few milliseconds."""
    if name not in _HOMES:
        raise AttributeError(f"module 'foretrain' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"foretrain.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """What is there, loaded or not."""
    return sorted({*globals(), *__all__})
