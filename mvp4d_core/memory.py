# SPDX-License-Identifier: Apache-2.0
"""How much memory this process and its finished children took at most."""

import sys


def peak_memory_gb() -> float | None:
    """Peak resident memory in GB (10^9 bytes), the largest of this process and of any finished child; None where the system can't tell."""
    try:
        import resource
    except ImportError:  # Windows has no such module
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return round(peak * unit / 1e9, 3)
