# SPDX-License-Identifier: Apache-2.0
"""What a node's schema allows, for nodes that validate by themselves: ComfyUI then leaves the inputs they name unchecked."""

from typing import Any

from comfy_api.latest import io


def refusal(node: type[io.ComfyNode], **values: Any) -> str | None:
    """A sentence about the first value beyond the bounds or options of its input; None where all are fine. Linked inputs are None."""
    inputs = {entry.id: entry for entry in node.define_schema().inputs}
    for name, value in values.items():
        entry = inputs[name]
        options = getattr(entry, "options", None)
        if value is None:
            continue
        if options is not None and value not in options:
            return f"`{name}` must be one of {', '.join(map(str, options))}, got {value}. Press R to refresh the node."
        low, high = getattr(entry, "min", None), getattr(entry, "max", None)
        if low is not None and high is not None and not low <= value <= high:
            return f"`{name}` must be {low} to {high}, got {value}."
    return None
