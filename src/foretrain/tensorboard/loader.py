"""TensorBoard's way in. Nothing here may fail: an error while it is imported stops TensorBoard itself."""

from __future__ import annotations

import logging
from typing import Any

from tensorboard.plugins import base_plugin

from foretrain.tensorboard.metadata import PLUGIN_NAME

log = logging.getLogger(__name__)


class ScalingLoader(base_plugin.TBLoader):  # type: ignore[misc]
    """Makes the Scaling tab, or leaves it out with one line in the log."""

    def fix_flags(self, flags: Any) -> None:
        """Asks for the newest report of a run only: every report is whole, and a series may be large."""
        try:
            flags.samples_per_plugin.setdefault(PLUGIN_NAME, 1)
        except Exception as error:
            log.warning("foretrain: TensorBoard will keep more reports than needed (%r).", error)

    def load(self, context: Any) -> Any:
        """The plugin, or None where it cannot be made."""
        try:
            from foretrain.tensorboard.plugin import ScalingPlugin

            return ScalingPlugin(context)
        except Exception as error:
            log.warning("foretrain: the Scaling tab is left out (%s: %s).", type(error).__name__, error)
            return None
