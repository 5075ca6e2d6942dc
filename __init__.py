# SPDX-License-Identifier: Apache-2.0
"""ComfyUI's door: a clone of this repository in `custom_nodes` is the node pack."""

if __package__:  # empty where a test runner opens this file alone, in a folder whose name is no Python name
    from .comfy_nodes import WEB_DIRECTORY, comfy_entrypoint

    __all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
