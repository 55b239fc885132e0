"""What training has cost."""

from foretrain.compute.record import RunCompute as RunCompute
from foretrain.compute.record import Totals as Totals
from foretrain.compute.record import compute_record as compute_record
from foretrain.compute.record import totals as totals
