# SPDX-License-Identifier: Apache-2.0
"""Settings of every test run."""

import os

from hypothesis import HealthCheck, settings

# torch's idle threads would spin on the cores that the rasteriser's threads work on; the command line sets the same
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# no example may fail for being slow: a busy machine is not a wrong result
settings.register_profile("suite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")
