# SPDX-License-Identifier: Apache-2.0
"""Data sets as their authors publish them, read as clips: `read_<name>(folder, tracks, head_model)` gives sources, each of one clip.

None of them has tracks for our heads; those are made beforehand, one file a recording (`tracks.py`).
"""
