"""Scale-time equivalence: whether a small model trained longer goes through the errors of a larger one."""

from foretrain.timescale.curves import TimeCurve as TimeCurve
from foretrain.timescale.curves import curves_of as curves_of
from foretrain.timescale.descent import double_descent_error as double_descent_error
from foretrain.timescale.equivalence import Equivalence as Equivalence
from foretrain.timescale.equivalence import measure_equivalence as measure_equivalence
from foretrain.timescale.prediction import Prediction as Prediction
from foretrain.timescale.prediction import Refusal as Refusal
from foretrain.timescale.prediction import predict_larger as predict_larger
