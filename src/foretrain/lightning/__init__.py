"""The PyTorch Lightning callback; the only part of foretrain that loads torch and Lightning."""

from foretrain.lightning.monitor import ScalingLawMonitor as ScalingLawMonitor
from foretrain.lightning.shards import NestedShards as NestedShards
