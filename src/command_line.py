"""What the scripts' command lines have in common: flags, logging, exit codes.

0  done      1  an error the user can mend, one line      2  wrong usage (argparse)      130  interrupted
"""

import argparse
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .errors import UserError, failed_access

DEVICES = ("auto", "cpu", "cuda")


def argument_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser that shows `description`, a docstring, as it is written, and a usage that can be pasted."""
    return argparse.ArgumentParser(
        prog=_program(), description=description, formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )  # fmt: skip


def _program() -> str:
    """`python predict.py`, or `python -m src.report.disk`."""
    module = sys.modules["__main__"].__spec__
    return f"python {sys.argv[0]}" if module is None else f"python -m {module.name}"


def command_line(description: str | None, *, device: bool = False) -> argparse.ArgumentParser:
    """A parser with the flags every script has; `description` is the script's docstring, shown as it is
    written.
    """
    parser = argument_parser(description)
    parser.add_argument(
        "--settings", default="SETTINGS.json", metavar="FILE", help="folders (default: SETTINGS.json)"
    )
    text = "processes; results never depend on it (default: all cores)"
    parser.add_argument("--jobs", type=positive, default=os.cpu_count() or 1, metavar="N", help=text)
    if device:
        parser.add_argument(
            "--device", choices=DEVICES, default="auto", help="where networks run (default: auto)"
        )
    parser.add_argument("--quiet", action="store_true", help="only warnings and errors")
    return parser


def training_command_line(description: str | None, keys: Callable[[], str]) -> argparse.ArgumentParser:
    """The parser of the two training scripts; `keys` lists those of a configuration, for --keys."""
    parser = command_line(description, device=True)
    add = parser.add_argument
    add("--keys", action=_ListKeys, keys=keys, help="list the keys of a configuration and exit")
    add("config", metavar="CONFIG.json", help="below experiments/; its path names the run")
    add("--fold", type=int, metavar="K", help="only this fold (default: every fold)")
    add_overrides(parser, "replace a key of the configuration by a JSON value; repeatable")
    return parser


def check_folder(flag: str, path: Path) -> None:
    """UserError where a folder of this name can never be: it, or what it would lie in, is a file."""
    for place in (path, *path.parents):
        if place.exists():
            if not place.is_dir():
                raise UserError(f"{flag} {path}: {place} is a file, not a folder; give another path")
            return


def add_overrides(parser: argparse.ArgumentParser, text: str) -> None:
    """The flag --set."""
    parser.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help=text
    )


class _ListKeys(argparse.Action):
    """As `--help`: print and exit, whatever else is given."""

    def __init__(self, keys: Callable[[], str], **options: Any):
        super().__init__(nargs=0, **options)
        self.keys = keys

    def __call__(self, parser: argparse.ArgumentParser, *arguments: Any) -> None:
        print(self.keys())
        parser.exit()


def positive(text: str) -> int:
    """Type of a flag that is a whole number from 1 on."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 1 on")
    return value


def share(text: str) -> float:
    """Type of a flag that is a part of a whole."""
    value = float(text)
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text} does not lie between 0 and 1")
    return value


def start_logging(quiet: bool = False) -> None:
    """Plain lines on standard error: everything the package reports, or only warnings."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING, stream=sys.stderr)
    logging.getLogger("ich").setLevel(logging.WARNING if quiet else logging.INFO)
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)  # its warnings quote headers, which name patients
    logging.raiseExceptions = False  # a log file that cannot be written stops nothing and prints no traceback


def run(main: Callable[[], None]) -> None:
    """Call a script's `main` and exit with its code; a user's error and an interruption are one line, no
    traceback.
    """
    try:
        main()
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read the output, such as head, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing in ("", "src", "ich"):  # a fault of ours
            raise
        text = f"error: {missing} is not installed; run: python -m pip install -r requirements.txt"
        print(text, file=sys.stderr)
        sys.exit(1)
    except (UserError, OSError) as error:
        mistake = failed_access(error, "reading or writing") if isinstance(error, OSError) else error
        print(f"error: {' '.join(str(mistake).split())}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted; run the same command again to continue", file=sys.stderr)
        sys.exit(130)
