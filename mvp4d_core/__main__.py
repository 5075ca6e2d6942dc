# SPDX-License-Identifier: Apache-2.0
"""`python -m mvp4d_core` is the `mvp4d` command."""

import sys

from .cli.main import main

sys.exit(main())
