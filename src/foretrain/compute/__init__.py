"""What training has cost."""

from foretrain.compute.burden import ComputeBurden as ComputeBurden
from foretrain.compute.burden import compute_burden as compute_burden
from foretrain.compute.record import RunCompute as RunCompute
from foretrain.compute.record import Totals as Totals
from foretrain.compute.record import compute_record as compute_record
from foretrain.compute.record import totals as totals
