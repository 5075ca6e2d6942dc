# SPDX-License-Identifier: Apache-2.0
"""Torch twins of the ground floor's formulas, under the same names."""
