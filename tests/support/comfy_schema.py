# SPDX-License-Identifier: Apache-2.0
"""ComfyUI's node schema as far as the pack uses it: inputs, outputs, `Schema`, `ComfyNode`. Part of the stand-in in `comfy_host.py`."""

from dataclasses import dataclass, field
from enum import Enum
from fractions import Fraction
from typing import Any

import numpy as np
import torch


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


class Input:
    io_type = ""

    def __init__(self, id: str, *, optional: bool = False, tooltip: str | None = None, advanced: bool | None = None) -> None:
        self.id, self.optional, self.tooltip, self.advanced = id, optional, tooltip, advanced

    def options_dict(self) -> dict[str, Any]:
        return _given(tooltip=self.tooltip, advanced=self.advanced)

    def check(self, value: Any) -> None:
        """Raises ValueError for a widget value that ComfyUI's validation refuses."""
        raise ValueError(f"{self.id} wants a link")


class Output:
    io_type = ""

    def __init__(self, id: str | None = None, *, display_name: str | None = None, tooltip: str | None = None) -> None:
        self.id, self.display_name, self.tooltip = id, display_name or id, tooltip


class Widget(Input):
    def __init__(self, id: str, *, default: Any = None, **common: Any) -> None:
        super().__init__(id, **common)
        self.default = default

    def options_dict(self) -> dict[str, Any]:
        return super().options_dict() | _given(default=self.default)


class FloatInput(Widget):
    kind: type = float

    def __init__(self, id: str, *, min: Any = None, max: Any = None, step: Any = None, display_mode: Any = None, **common: Any) -> None:
        super().__init__(id, **common)
        self.min, self.max, self.step, self.display_mode = min, max, step, display_mode

    def options_dict(self) -> dict[str, Any]:
        display = self.display_mode.value if isinstance(self.display_mode, Enum) else self.display_mode
        return super().options_dict() | _given(min=self.min, max=self.max, step=self.step, display=display)

    def check(self, value: Any) -> None:
        value = self.kind(value)
        if (self.min is not None and value < self.min) or (self.max is not None and value > self.max):
            raise ValueError(f"{self.id} must be {self.min} to {self.max}, got {value}")


class IntInput(FloatInput):
    kind = int

    def __init__(self, id: str, *, control_after_generate: Any = None, **common: Any) -> None:
        super().__init__(id, **common)
        self.control_after_generate = control_after_generate

    def options_dict(self) -> dict[str, Any]:
        control = self.control_after_generate
        return super().options_dict() | _given(control_after_generate=control.value if isinstance(control, Enum) else control)


class StringInput(Widget):
    def __init__(self, id: str, *, multiline: bool = False, **common: Any) -> None:
        super().__init__(id, **common)
        self.multiline = multiline

    def options_dict(self) -> dict[str, Any]:
        return super().options_dict() | _given(multiline=self.multiline)

    def check(self, value: Any) -> None:
        str(value)


class BooleanInput(Widget):
    def check(self, value: Any) -> None:
        bool(value)


class ComboInput(Widget):
    def __init__(self, id: str, *, options: list[str], **common: Any) -> None:
        super().__init__(id, **common)
        self.options = options

    def options_dict(self) -> dict[str, Any]:
        return super().options_dict() | {"multiselect": False, "options": self.options}

    def check(self, value: Any) -> None:
        if value not in self.options:
            raise ValueError(f"{self.id} must be one of {self.options}, got {value}")


class ColorInput(Widget):
    def __init__(self, id: str, *, default: str = "#ffffff", **common: Any) -> None:
        super().__init__(id, default=default, **common)

    def options_dict(self) -> dict[str, Any]:
        return super().options_dict() | {"socketless": True}

    def check(self, value: Any) -> None:
        str(value)


def comfy_type(name: str, input_base: type[Input] = Input) -> Any:
    """A ComfyUI type: a namespace with an Input and an Output that know its name."""
    return type(name, (), {"io_type": name, "Input": type("Input", (input_base,), {"io_type": name}),
                           "Output": type("Output", (Output,), {"io_type": name})})  # fmt: skip


class Hidden(str, Enum):
    unique_id = "UNIQUE_ID"
    prompt = "PROMPT"
    extra_pnginfo = "EXTRA_PNGINFO"


class NumberDisplay(str, Enum):
    number = "number"
    slider = "slider"


class ControlAfterGenerate(str, Enum):
    fixed = "fixed"
    randomize = "randomize"


@dataclass
class Schema:
    node_id: str
    display_name: str | None = None
    category: str = "sd"
    inputs: list[Input] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)
    hidden: list[Hidden] = field(default_factory=list)
    description: str = ""
    search_aliases: list[str] = field(default_factory=list)
    is_output_node: bool = False

    def __post_init__(self) -> None:
        for names in ([i.id for i in self.inputs], [o.id for o in self.outputs]):
            if len(set(names)) != len(names):
                raise ValueError(f"{self.node_id} has an id twice: {names}")
        if self.is_output_node:
            self.hidden = [*self.hidden, *(h for h in (Hidden.prompt, Hidden.extra_pnginfo) if h not in self.hidden)]


class NodeOutput:
    def __init__(self, *args: Any, ui: Any = None, expand: dict | None = None, block_execution: str | None = None) -> None:
        self.args = args
        self.ui: dict[str, Any] = ui.as_dict() if isinstance(ui, PreviewImage) else ui or {}


class ComfyNode:
    """As in ComfyUI: classmethods only, `define_schema` and `execute`."""

    hidden: Any = None

    @classmethod
    def GET_SCHEMA(cls) -> Schema:
        return cls.define_schema()


class PreviewImage:
    def __init__(self, image: torch.Tensor, animated: bool = False, cls: type[ComfyNode] | None = None) -> None:
        check_picture(image, "IMAGE")
        self.image, self.animated = image, animated

    def as_dict(self) -> dict[str, Any]:
        return {"images": [{"filename": f"{n}.png", "subfolder": "", "type": "temp"} for n in range(len(self.image))], "animated": (False,)}


@dataclass
class VideoComponents:
    images: torch.Tensor
    frame_rate: Fraction
    audio: Any = None
    metadata: dict | None = None
    alpha: torch.Tensor | None = None

    def __post_init__(self) -> None:
        check_picture(self.images, "IMAGE")
        assert isinstance(self.frame_rate, Fraction) and self.frame_rate > 0


class VideoFromComponents:
    def __init__(self, components: VideoComponents) -> None:
        self._components = components

    def get_components(self) -> VideoComponents:
        return self._components


class VideoFromFile:
    """Of a whole file, or of `start_time` seconds on; frames are given by `components`, for a test reads no video twice."""

    def __init__(self, file: str, *, start_time: float = 0, duration: float = 0, components: VideoComponents | None = None) -> None:
        self._file, self._window, self._components = file, (float(start_time), float(duration)), components

    def get_stream_source(self) -> str:
        return self._file

    def get_active_trim_window(self) -> tuple[float, float]:
        return self._window

    def get_components(self) -> VideoComponents:
        assert self._components is not None
        return self._components


class SPLAT:
    def __init__(
        self, positions: torch.Tensor, scales: torch.Tensor, rotations: torch.Tensor, opacities: torch.Tensor, sh: torch.Tensor,
        counts: torch.Tensor | None = None,
    ) -> None:  # fmt: skip
        batch, count = positions.shape[:2]
        shapes = (positions.shape[2:], scales.shape, rotations.shape, opacities.shape, sh.shape[:2], sh.shape[3:])
        assert shapes == ((3,), (batch, count, 3), (batch, count, 4), (batch, count, 1), (batch, count), (3,)), shapes
        self.positions, self.scales, self.rotations = positions, scales, rotations
        self.opacities, self.sh, self.counts = opacities, sh, counts


def check_picture(value: Any, io_type: str) -> None:
    if io_type not in ("IMAGE", "MASK"):
        return
    dimensions = {"IMAGE": 4, "MASK": 3}[io_type]
    assert isinstance(value, torch.Tensor) and value.dtype == torch.float32 and value.ndim == dimensions, io_type
    assert io_type == "MASK" or value.shape[3] == 3
    pixels = value.numpy()
    assert np.isfinite(pixels).all() and pixels.min() >= 0 and pixels.max() <= 1, io_type
