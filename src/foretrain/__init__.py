"""foretrain: scaling laws tracked during ordinary training. Loads no framework."""

__version__ = "0.1.0.dev0"
