"""What an error is made of, and what a few measured errors can tell at all."""

from foretrain.error_sources.decomposition import ErrorSources as ErrorSources
from foretrain.error_sources.decomposition import split_error as split_error
from foretrain.error_sources.sampling import TwoPointExponent as TwoPointExponent
from foretrain.error_sources.sampling import error_change as error_change
from foretrain.error_sources.sampling import error_std as error_std
from foretrain.error_sources.sampling import two_point_exponent as two_point_exponent
from foretrain.error_sources.selection import PolicyCurve as PolicyCurve
from foretrain.error_sources.selection import compare_policies as compare_policies
from foretrain.error_sources.speed import LearningSpeed as LearningSpeed
from foretrain.error_sources.speed import Verdict as Verdict
from foretrain.error_sources.speed import judge_speed as judge_speed
