"""The program: `streamer`, which is `python -m streamer`."""

import signal
import sys


def main() -> None:
    """Run the command. Ctrl-C while it is loaded ends it as SIGTERM does: by the signal, without a stack."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from streamer.cli import main as command  # noqa: PLC0415  # takes a second, in which Ctrl-C may come

    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        command()
    except KeyboardInterrupt:  # in the moment before the command takes it over
        sys.exit(128 + signal.SIGINT)


if __name__ == "__main__":
    main()
