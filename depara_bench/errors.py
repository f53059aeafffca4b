"""The one family of errors a user can cause.

InputError   bad job, manifest, probe, file or folder: nothing was started  (exit 2)
RunError     the run went wrong part-way and cannot give a result           (exit 1)

Everything else that is raised is a bug of this package and keeps its traceback.
"""

from __future__ import annotations


class DeparaError(Exception):
    """Base of the errors shown to the user as one line: what, where, how to mend."""


class InputError(DeparaError):
    """What the user gave cannot be worked with; nothing has been started."""


class RunError(DeparaError):
    """Something that only showed while running; what is complete on disk stays valid."""
