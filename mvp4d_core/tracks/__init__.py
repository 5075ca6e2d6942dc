# SPDX-License-Identifier: Apache-2.0
"""Tracks of other people's trackers, one file a tracker: each becomes an `ImportedTrack` with a `Performance` of a FLAME head."""
