"""What to do next: decisions that a joint law of model size and data supports, each with its doubt."""

from foretrain.decisions.allocation import FLOPS_PER_WEIGHT, JointLaw
from foretrain.decisions.answers import Answer, Choice, NextRun, Optimum
from foretrain.decisions.isoflop import Isoflop, envelope, isoflop_optima
from foretrain.decisions.planner import Planner, compute_multiplier

__all__ = [
    "FLOPS_PER_WEIGHT",
    "Answer",
    "Choice",
    "Isoflop",
    "JointLaw",
    "NextRun",
    "Optimum",
    "Planner",
    "compute_multiplier",
    "envelope",
    "isoflop_optima",
]
