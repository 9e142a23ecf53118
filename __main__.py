"""`python -m optimize_graph` is the command, and so is the script that is installed."""

import sys


def main() -> int:
    """Run the command. An interrupt while it is being imported ends it without a traceback, too."""
    try:
        from .cli import main as command

        return command()
    except KeyboardInterrupt:
        print("optimize-graph: interrupted; nothing was written", file=sys.stderr)
        exec("")  # resets CPython's mark of an interrupt within exec(str): the exit code would be that of SIGINT
        return 130


if __name__ == "__main__":
    sys.exit(main())
