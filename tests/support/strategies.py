# SPDX-License-Identifier: Apache-2.0
"""Hypothesis strategies for the formats."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mvp4d_core.avatar.ply import StoredSplats

TENSOR_DTYPES = ("u8", "i8", "f8", "c8", "f4", "u4", "i4", "f2", "u2", "i2", "i1", "u1", "?")

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray:
    """An array of any dtype, byte order, memory order and shape that a safetensors file can hold, empty ones and scalars included."""
    dtype = np.dtype(draw(st.sampled_from(TENSOR_DTYPES))).newbyteorder(draw(st.sampled_from("<>")))
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
    array = draw(hnp.arrays(dtype, shape))
    return np.asfortranarray(array) if array.ndim and draw(st.booleans()) else array


tensors = st.dictionaries(texts.filter(lambda name: name != "__metadata__"), arrays(), max_size=5)
metadata = st.dictionaries(texts, texts, max_size=3)


@st.composite
def splats(draw: st.DrawFn) -> StoredSplats:
    """0 to 6 splats of any spherical harmonics degree, with every finite float32 among the values."""
    count = draw(st.integers(0, 6))
    bands = draw(st.sampled_from([0, 3, 8, 15]))
    finite = st.floats(width=32, allow_nan=False, allow_infinity=False)

    def column(*shape: int) -> np.ndarray:
        return draw(hnp.arrays(np.float32, (count, *shape), elements=finite))

    quats = column(4)
    quats[~quats.any(axis=1), 0] = 1
    return StoredSplats(column(3), quats, column(3), column(), column(3), column(bands, 3))
