"""What an error is made of, and what a few measured errors can tell at all."""

from foretrain.error_sources.sampling import TwoPointExponent as TwoPointExponent
from foretrain.error_sources.sampling import error_change as error_change
from foretrain.error_sources.sampling import error_std as error_std
from foretrain.error_sources.sampling import two_point_exponent as two_point_exponent
