# SPDX-License-Identifier: Apache-2.0
"""The open head without what is behind its lips, as FLAME comes."""

from dataclasses import replace

import numpy as np

from mvp4d_core.rig import HeadModel, load_head_model

INSIDE = ("mouth_cavity", "upper_teeth", "lower_teeth", "gums", "tongue")
_PER_VERTEX = ("v_template", "shapedirs", "exprdirs", "posedirs", "lbs_weights", "static_offsets")


def bare_head() -> HeadModel:
    model = load_head_model()
    inside = model.region_mask(*INSIDE) & ~model.region_mask("lips")
    gone = inside[model.faces].any(axis=1)
    assert not gone[model.landmark_faces].any()
    kept = np.unique(model.faces[~gone])
    number = np.full(len(inside), -1, np.int32)
    number[kept] = np.arange(len(kept), dtype=np.int32)
    regressor = model.J_regressor[:, kept]
    return replace(
        model,
        **{name: getattr(model, name)[kept] for name in _PER_VERTEX},
        faces=number[model.faces[~gone]],
        uv_faces=model.uv_faces[~gone],
        J_regressor=regressor / regressor.sum(axis=1, keepdims=True),
        landmark_faces=(np.cumsum(~gone) - 1)[model.landmark_faces].astype(np.int32),
        regions={name: number[region][number[region] >= 0] for name, region in model.regions.items() if name not in INSIDE},
    )
