# SPDX-License-Identifier: Apache-2.0
"""The `mvp4d` command: one thin file a subcommand."""
