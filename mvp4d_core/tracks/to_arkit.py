# SPDX-License-Identifier: Apache-2.0
"""A track of a FLAME head in ARKit's names."""

from dataclasses import replace

import numpy as np

from ..rig import HeadModel, Performance, convert_performance, load_head_model
from .imported_track import BLINKS, named_weights


def arkit_performance(performance: Performance, head_model: HeadModel) -> Performance:
    """The performance of `head_model` on the open head, whose expressions are ARKit's; blinks that came beside FLAME's close its lids.

    Raises:
        InputError: the two heads don't carry the same landmarks.
    """
    converted = convert_performance(performance, head_model, load_head_model()).performance
    expression = converted.expression.copy()
    lids = [converted.expression_names.index(name) for name in BLINKS]
    expression[:, lids] = np.maximum(expression[:, lids], named_weights(performance, BLINKS))
    return replace(converted, expression=expression)
