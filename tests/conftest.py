# SPDX-License-Identifier: Apache-2.0
"""Settings of every test run."""

import os

# torch's idle threads would spin on the cores that the rasteriser's threads work on; the command line sets the same
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
