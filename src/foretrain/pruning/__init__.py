"""The error of pruned networks: their curves against density, and one law for a family of them."""

from foretrain.pruning.curves import PruningCurve as PruningCurve
from foretrain.pruning.curves import pruning_curve as pruning_curve
from foretrain.pruning.joint import JointPruningLaw as JointPruningLaw
from foretrain.pruning.joint import PrunedNetwork as PrunedNetwork
from foretrain.pruning.joint import fit_joint_pruning as fit_joint_pruning
from foretrain.pruning.joint import smallest_for as smallest_for
from foretrain.pruning.judging import JudgedNetworks as JudgedNetworks
from foretrain.pruning.judging import fit_curves as fit_curves
from foretrain.pruning.judging import leave_networks_out as leave_networks_out
