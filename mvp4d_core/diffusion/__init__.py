# SPDX-License-Identifier: Apache-2.0
"""The morphable multi-view video diffusion model: transformer, sampling, rollout, weights."""
