"""What can go wrong, by what one can do about it.

StreamerError
├── UsageError      the command line is off                    64
├── InputError      no such file, or not audio                 66
├── ResourceError   the system refuses: open files, memory     71
├── OutputError     results cannot be written: a full disk     74
├── SourceError     a source cannot be opened or read now      75
│   └── StuckError  a driver never returned: only a new process can go on
├── FleetError      other machines cannot be reached now       75
├── ModelError      the model cannot be loaded                 78
├── InferenceError  the model cannot score any more            70
└── ConfigError     the configuration is wrong; mend the file  78

Exit codes follow sysexits.h; systemd restarts on 75, 71 and 70 and stays down on 78.
"""

import errno
import os
import traceback
from collections.abc import Iterator
from pathlib import Path


class StreamerError(Exception):
    """Its text is one line for people, or one for each argument: what is wrong, where, what to do."""

    exit_code = 70

    def __str__(self) -> str:
        """A line end within an argument, as in the name of a file, begins no line."""
        return "\n".join(str(line).replace("\n", r"\n") for line in self.args)


class UsageError(StreamerError):
    exit_code = 64


class InputError(StreamerError):
    exit_code = 66


class ResourceError(StreamerError):
    exit_code = 71


class OutputError(StreamerError):
    exit_code = 74


class SourceError(StreamerError):
    exit_code = 75


class StuckError(SourceError):
    pass


class FleetError(StreamerError):
    exit_code = 75


class ModelError(StreamerError):
    exit_code = 78


class InferenceError(StreamerError):
    exit_code = 70


class ConfigError(StreamerError):
    exit_code = 78


_SHORT = {
    errno.EMFILE: "close programs, or allow more: `ulimit -n`, or LimitNOFILE= in the unit",
    errno.ENFILE: "the whole machine has too many open: close programs",
    errno.ENOMEM: "close programs, or take a smaller model",
    errno.EAGAIN: "allow more processes: `ulimit -u`, or TasksMax= in the unit",
}
"""what the system has too little of, and what to do"""
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}


def for_people(error: BaseException) -> StreamerError | None:
    """What to tell people of an error that ended a command; None where it is a fault of the program.

    The first StreamerError of a group, else what the system refused. Where something ran short, errors that
    came of it while it was handled do not hide it.
    """
    errors = list(_leaves(error))
    for leaf in errors:
        if isinstance(leaf, StreamerError):
            return leaf
    for leaf in errors:
        for cause in _causes(leaf):
            if isinstance(cause, OSError) and cause.errno and (cause is leaf or cause.errno in _SHORT):
                return _refusal(cause)
            if isinstance(cause, MemoryError) or _found_no_room(cause):
                return ResourceError(f"not enough memory: {_SHORT[errno.ENOMEM]}")
    return None


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, and those in whose handling it arose."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def _found_no_room(error: BaseException) -> bool:
    """Whether the dynamic linker had no memory for a library: Python says only that it cannot be imported."""
    words = ("failed to map segment", "Cannot allocate memory")
    return isinstance(error, ImportError) and any(word in str(error) for word in words)


def _refusal(error: OSError) -> StreamerError:
    """What the system refused, where, and what to do."""
    what = error.strerror or type(error).__name__
    if error.errno in _FULL:
        return OutputError(f"{_place(error)}: {what}: make room, or name another place")
    todo = _SHORT.get(error.errno or 0, "mend that, and start it again")
    return ResourceError(f"{_place(error)}: {what}: {todo}")


def _place(error: OSError) -> str:
    """The file, or the line of the program that asked for something without a name."""
    if error.filename is not None:
        return os.fsdecode(error.filename) if not isinstance(error.filename, int) else str(error.filename)
    frames = traceback.extract_tb(error.__traceback__)
    if frames and frames[-1].name == "echo":
        return "standard output"
    root = Path(__file__).parent
    ours = [frame for frame in frames if root in Path(frame.filename).parents]
    return f"{Path(ours[-1].filename).relative_to(root.parent)}:{ours[-1].lineno}" if ours else "the system"
