# SPDX-License-Identifier: Apache-2.0
"""The errors of the suite.

Every message names the thing, the rule, the value and the cure, in at most two lines. Command line, ComfyUI and Blender each show
`str(error)` and nothing else; `exit_code` is what the command line returns.
"""


class MVP4DError(Exception):
    """Anything a user can cause and cure."""

    exit_code = 1


class InputError(MVP4DError):
    """An argument or an input file that is readable but not usable for this."""

    exit_code = 2


class FormatError(MVP4DError):
    """A file that is not what it claims to be: truncated, corrupt, hostile, or of another schema."""

    exit_code = 3


class MissingAssetError(MVP4DError):
    """A package, a licensed file, weights or a device that this needs and that is not here."""

    exit_code = 4


class TrackingError(MVP4DError):
    """No usable face in the picture."""

    exit_code = 5


class StorageError(MVP4DError):
    """A path that cannot be read or written: disk full, read-only, no such folder."""

    exit_code = 6


class Cancelled(MVP4DError):
    """The user stopped the work. Finished stages stay on disk."""

    exit_code = 130
