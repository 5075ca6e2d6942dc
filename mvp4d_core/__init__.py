# SPDX-License-Identifier: Apache-2.0
"""MVP4D: one portrait photo in, an animatable 4D Gaussian head avatar out (after arXiv 2510.12785)."""

__version__ = "0.1.0"
