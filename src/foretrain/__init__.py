"""foretrain: scaling laws tracked during ordinary training. Loads no framework."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from foretrain.projection import Forecast, forecast, forecast_joint

__version__ = "0.1.0.dev0"
__all__ = ["Forecast", "__version__", "forecast", "forecast_joint"]


def __getattr__(name: str) -> Any:
    """Loads the numerical core at first use, so that `import foretrain` alone costs a few milliseconds."""
    if name in ("Forecast", "forecast", "forecast_joint"):
        from foretrain import projection

        return getattr(projection, name)
    raise AttributeError(f"module 'foretrain' has no attribute {name!r}")
