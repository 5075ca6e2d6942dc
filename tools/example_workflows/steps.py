# SPDX-License-Identifier: Apache-2.0
"""What a workflow is made of. A link is a list of a step's key and the number of its output."""

from dataclasses import dataclass, field
from typing import Any

PICTURE, TALL = 300, 420  # pixels of the canvas that a node's preview wants


@dataclass(frozen=True)
class Step:
    """A node: its class, what is set or linked, its own title, and the room that it needs for what it shows."""

    node: str
    inputs: dict[str, Any] = field(default_factory=dict)
    title: str = ""
    room: int = 0


@dataclass(frozen=True)
class Group:
    """A frame with a heading around columns of steps, each from top to bottom by key."""

    heading: str
    columns: tuple[dict[str, Step], ...]

    @property
    def stacks(self) -> list[list[str]]:
        return [list(column) for column in self.columns]


@dataclass(frozen=True)
class Workflow:
    """`thumbnail` names steps that show pictures or a video, each with the moment to take, 0 to 1."""

    name: str
    note: str
    groups: tuple[Group, ...]
    thumbnail: tuple[tuple[str, float], ...]

    def steps(self) -> dict[str, Step]:
        return {key: step for group in self.groups for column in group.columns for key, step in column.items()}


def saved(film: str, name: str, output: int = 0) -> Step:
    return Step("SaveVideo", {"video": [film, output], "filename_prefix": f"video/{name}"}, room=TALL)
