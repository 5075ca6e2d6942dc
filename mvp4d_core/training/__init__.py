# SPDX-License-Identifier: Apache-2.0
"""Training of the diffusion model: clips, synthetic heads, data sets, curriculum, trainer."""
