# SPDX-License-Identifier: Apache-2.0
"""Folders that results go into."""

import os
from pathlib import Path

from ..errors import StorageError


def make_folder(folder: Path) -> None:
    """Makes an output folder, and those above it; StorageError where it can't be made or written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except FileExistsError:
        raise StorageError(f"{folder} can't be made a folder: there is a file of that name. Give another one with -o.") from None
    except OSError as error:
        raise StorageError(f"The folder {folder} can't be made: {error.strerror}. Give another one with -o.") from None
    if not writable:
        raise StorageError(f"The folder {folder} can't be written. Give another one with -o.")
