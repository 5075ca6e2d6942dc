# SPDX-License-Identifier: Apache-2.0
"""The files and folders of other people's trackers, in whatever container they come; what is in them is for `mvp4d_core.tracks` to read."""
