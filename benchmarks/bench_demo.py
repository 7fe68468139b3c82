"""How long a finished `make run` took, read off its files.   python -m benchmarks.bench_demo [SETTINGS.json]

From the first synthetic image to the last file of step 5, installation left out; the reference are the ten
minutes that README.md states. A demo that was made in parts is refused.
"""

from pathlib import Path

from benchmarks.record import record
from benchmarks.timing import entry, show
from src.command_line import argument_parser, run
from src.errors import UserError
from src.settings import load_settings

STATED, LONGEST = 600.0, 2 * 3600.0  # seconds
DEMO = "experiments/demo/SETTINGS.json"


def seconds_of(raw: Path, submission: Path) -> float | None:
    """None where there is no finished demo; UserError where it was not made in one go."""
    first = min((file.stat().st_mtime for file in raw.glob("stage_2_*/*.dcm")), default=None)
    report = submission / "report.html"
    if first is None or not report.is_file():
        return None
    taken = report.stat().st_mtime - first
    if not 0 < taken < LONGEST:
        raise UserError(f"{report}: was not made in one go with {raw}; run: make clean run")
    return taken


def main() -> None:
    parser = argument_parser(__doc__.splitlines()[0])
    parser.add_argument("settings", nargs="?", default=DEMO, help="of the demo")
    parser.add_argument("--no-record", action="store_true", help="print only, leave results/bench.json alone")
    arguments = parser.parse_args()
    settings = load_settings(arguments.settings)
    taken = seconds_of(settings.raw, settings.submissions / "demo")
    if taken is None:
        print("no finished demo to take the time of: make run")
        return
    entries = [entry("demo", taken, STATED, "s", "ten minutes, as README.md says", False)]
    show(entries)
    if not arguments.no_record:
        record(entries)


if __name__ == "__main__":
    run(main)
