"""The laws, by name."""

from foretrain.laws.joint import ChinchillaLaw
from foretrain.laws.law import Axis, Law, Parameter, SeparableLaw
from foretrain.laws.single import PowerLaw, PowerLawFloor, ShiftedPowerLawFloor

LAWS: dict[str, Law] = {
    law.name: law for law in (PowerLaw(), PowerLawFloor(), ShiftedPowerLawFloor(), ChinchillaLaw())
}

__all__ = ["LAWS", "Axis", "Law", "Parameter", "SeparableLaw"]
