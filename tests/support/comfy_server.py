# SPDX-License-Identifier: Apache-2.0
"""A real ComfyUI server, for the tests that have one."""

from mvp4d_core.evaluation.comfy_server import FOLDER_NAME, Server, messages, running

__all__ = ["FOLDER_NAME", "Server", "messages", "running"]
