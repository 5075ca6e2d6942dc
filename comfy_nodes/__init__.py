# SPDX-License-Identifier: Apache-2.0
"""The ComfyUI node pack: thin V3 nodes over `mvp4d_core`.

The nodes are imported when ComfyUI asks for them, so this package can be imported where ComfyUI is not.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from comfy_api.latest import ComfyExtension

WEB_DIRECTORY = "./comfy_nodes/web"  # seen from the root of the clone, where ComfyUI looks for it


async def comfy_entrypoint() -> "ComfyExtension":
    """What ComfyUI's loader calls."""
    from .extension import MVP4DExtension

    return MVP4DExtension()
