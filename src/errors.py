"""The one exception that is the user's to mend, and what a failing disk asks of the user."""

import errno
from pathlib import Path


class UserError(Exception):
    """A mistake in input, configuration or order of steps.

    The message names the file, the cause and the remedy; scripts print it as one line and exit with 1.
    """


REMEDIES = dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "make room and run again, it goes on")
REMEDIES[errno.ENOENT] = "check the path"
REMEDIES |= dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "check the permissions of the folder")
REMEDIES |= dict.fromkeys((errno.ENOTDIR, errno.EEXIST), "move the file away, a folder must be there")


def failed_access(error: OSError, place: object) -> UserError:
    """A file or folder that the system refuses; `place` is named where the error names none."""
    remedy = REMEDIES.get(error.errno or 0, "check the path and the disk")
    name = place if error.filename is None else error.filename
    shown = str(Path(name)) if isinstance(name, str) else str(name)
    shown = shown.encode("utf-8", "backslashreplace").decode()
    return UserError(f"{shown}: {error.strerror or error}; {remedy}")
