# SPDX-License-Identifier: Apache-2.0
"""A studio of synthetic heads: random people, performances, skins, hair, lights, rendered as multi-view video with exact tracks."""
