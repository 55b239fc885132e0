"""What to do next: decisions that a joint law of model size and data supports, each with its doubt."""

from foretrain.decisions.allocation import FLOPS_PER_WEIGHT, JointLaw
from foretrain.decisions.answers import Answer, Choice, NextRun, Optimum
from foretrain.decisions.contradiction import disagreement
from foretrain.decisions.isoflop import Isoflop, envelope, isoflop_optima
from foretrain.decisions.planner import Planner, compute_multiplier
from foretrain.decisions.study import LeftOut, StudyPoints, from_study, study_points

__all__ = [
    "FLOPS_PER_WEIGHT",
    "Answer",
    "Choice",
    "Isoflop",
    "JointLaw",
    "LeftOut",
    "NextRun",
    "Optimum",
    "Planner",
    "StudyPoints",
    "compute_multiplier",
    "disagreement",
    "envelope",
    "from_study",
    "isoflop_optima",
    "study_points",
]
