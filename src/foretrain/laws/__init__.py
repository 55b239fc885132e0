"""The laws, by name."""

from foretrain.laws.annealing import AnnealingLaw
from foretrain.laws.bounded import M3Law, M4Law
from foretrain.laws.broken import BrokenPowerLaw1, BrokenPowerLaw2
from foretrain.laws.curves import ExponentialLaw, InverseLogLaw, ModelGrowthLaw
from foretrain.laws.joint import ChinchillaLaw, GadreLaw
from foretrain.laws.kaplan import KaplanLaw
from foretrain.laws.law import Axis, Law, Parameter, SeparableLaw
from foretrain.laws.overfit import LovelaceLaw, MemorizationLaw
from foretrain.laws.repeated import RepeatedDataLaw
from foretrain.laws.rosenfeld import PruningLaw, RosenfeldLaw
from foretrain.laws.single import PowerLaw, PowerLawFloor, ShiftedPowerLawFloor

LAWS: dict[str, Law] = {
    law.name: law
    for law in (
        *(PowerLaw(), PowerLawFloor(), ShiftedPowerLawFloor(), M3Law(), M4Law()),
        *(BrokenPowerLaw1(), BrokenPowerLaw2(), ExponentialLaw(), InverseLogLaw()),
        *(ChinchillaLaw(), GadreLaw(), KaplanLaw(), RosenfeldLaw(), RepeatedDataLaw()),
        *(LovelaceLaw(), MemorizationLaw(), PruningLaw(), ModelGrowthLaw(), AnnealingLaw()),
    )
}

__all__ = ["LAWS", "Axis", "Law", "Parameter", "SeparableLaw"]
