"""What can go wrong, by what one can do about it.

StreamerError
├── UsageError      the command line is off                    64
├── InputError      no such file, or not audio                 66
├── OutputError     results cannot be written: a full disk     74
├── SourceError     a source cannot be opened or read now      75
│   └── StuckError  a driver never returned: only a new process can go on
├── ModelError      the model cannot be loaded                 78
├── InferenceError  the model cannot score any more            70
└── ConfigError     the configuration is wrong; mend the file  78

Exit codes follow sysexits.h; systemd restarts on 75 and 70 and stays down on 78.
"""


class StreamerError(Exception):
    """Its text is one line for people: what is wrong, where, what to do."""

    exit_code = 70


class UsageError(StreamerError):
    exit_code = 64


class InputError(StreamerError):
    exit_code = 66


class OutputError(StreamerError):
    exit_code = 74


class SourceError(StreamerError):
    exit_code = 75


class StuckError(SourceError):
    pass


class ModelError(StreamerError):
    exit_code = 78


class InferenceError(StreamerError):
    exit_code = 70


class ConfigError(StreamerError):
    exit_code = 78
