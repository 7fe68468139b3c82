"""Flags common to all scripts, and how they end."""

import logging
import subprocess
import sys

import pytest

from src.command_line import check_folder, command_line, run, share, start_logging, training_command_line
from src.config import Count, StrictModel
from src.config_keys import listing
from src.errors import UserError
from tests.conftest import ROOT


def test_flags_that_every_script_has():
    arguments = command_line("what it does").parse_args(["--jobs", "3", "--quiet"])
    assert (arguments.settings, arguments.jobs, arguments.quiet) == ("SETTINGS.json", 3, True)
    assert not hasattr(arguments, "overrides") and not hasattr(arguments, "device")


def test_flags_of_the_training_scripts():
    parser = training_command_line("what it does", lambda: StrictModel)
    arguments = parser.parse_args(["a.json", "--fold", "2", "--set", "lr=1e-4", "--set", "epochs=2"])
    assert (arguments.config, arguments.fold, arguments.device) == ("a.json", 2, "auto")
    assert arguments.overrides == ["lr=1e-4", "epochs=2"]
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args(["a.json", "--device", "tpu"])


def test_the_keys_of_a_configuration_are_listed_whatever_else_is_given(capsys):
    class Config(StrictModel):
        """All of it."""

        width: Count = 3
        """how wide"""

    with pytest.raises(SystemExit, match="0"):
        training_command_line("what it does", lambda: listing(Config)).parse_args(["--keys"])
    assert capsys.readouterr().out == (
        "All of it.\n\n  width: whole number from 1 up; default 3\n      how wide\n\n"
    )


def test_an_abbreviated_flag_is_wrong_usage():
    with pytest.raises(SystemExit, match="2"):
        command_line("what it does").parse_args(["--quie"])


def test_a_file_where_answers_should_go_is_refused_before_anything_is_loaded(tmp_path):
    (tmp_path / "taken").write_text("mine")
    for out in (tmp_path / "taken", tmp_path / "taken" / "deeper"):
        command = [sys.executable, "-X", "importtime", ROOT / "predict.py", "--bundle", "none.zip"]
        answer = subprocess.run(
            [*command, "--study", ".", "--out", out], capture_output=True, text=True, cwd=ROOT
        )
        said = f"--out {out}: {tmp_path}/taken is a file, not a folder; give another path"
        assert answer.returncode == 1 and answer.stderr.splitlines()[-1].endswith(said)
        assert " torch" not in answer.stderr and " pandas" not in answer.stderr
    assert (tmp_path / "taken").read_text() == "mine"
    check_folder("--out", tmp_path)
    check_folder("--out", tmp_path / "new" / "deeper")


@pytest.mark.parametrize("text", ["0", "1", "-0.5", "nan", "a"])
def test_a_share_lies_between_0_and_1(text):
    parser = command_line("what it does")
    parser.add_argument("--part", type=share)
    assert parser.parse_args(["--part", "0.3"]).part == 0.3
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args(["--part", text])


def test_a_users_error_is_one_line_and_1(capsys):
    def main():
        raise UserError("a.csv: wrong\n  in two lines")

    with pytest.raises(SystemExit, match="1"):
        run(main)
    assert capsys.readouterr().err == "error: a.csv: wrong in two lines\n"


def test_an_interruption_is_one_line_and_130(capsys):
    def main():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit, match="130"):
        run(main)
    assert capsys.readouterr().err.count("\n") == 1


def test_other_errors_keep_their_traceback():
    def main():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(main)


@pytest.mark.parametrize(("quiet", "level"), [(False, logging.INFO), (True, logging.WARNING)])
def test_quiet_leaves_warnings(quiet, level):
    start_logging(quiet)
    assert logging.getLogger("ich").getEffectiveLevel() == level
    logging.getLogger("ich").setLevel(logging.NOTSET)


def test_output_that_nobody_reads_any_more_is_no_error():
    program = "from src.command_line import run; run(lambda: print('x' * 10 ** 6))"
    command = f'{sys.executable} -c "{program}" | head -c 1; echo ${{PIPESTATUS[0]}}'
    found = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (found.stdout, found.stderr) == ("x0\n", "")


def test_a_package_that_is_not_installed_is_one_line_and_a_module_of_ours_is_a_fault(capsys):
    def main(name):
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    with pytest.raises(SystemExit, match="1"):
        run(lambda: main("joblib.parallel"))
    said = capsys.readouterr().err
    assert said == "error: joblib is not installed; run: python -m pip install -r requirements.txt\n"
    with pytest.raises(ModuleNotFoundError):
        run(lambda: main("src.nothing"))


def help_of(*command):
    command = [sys.executable, *command, "--help"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_a_usage_line_can_be_pasted():
    for command in (["-m", "src.report.disk"], ["ensemble.py"]):
        assert help_of(*command).startswith(f"usage: python {' '.join(command)} [-h] ")


def test_every_program_has_its_usage_from_one_place():
    for file in [*ROOT.glob("*.py"), *ROOT.glob("src/**/*.py"), *ROOT.glob("benchmarks/*.py")]:
        text = file.read_text(encoding="utf-8")
        assert "ArgumentParser(" not in text or file == ROOT / "src/command_line.py", file


@pytest.mark.parametrize("module", ["src.report.configuration", "src.report.generated"])
def test_asking_what_writes_the_texts_for_help_writes_nothing(module):
    shown = help_of("-m", module)
    assert shown.startswith(f"usage: python -m {module} [-h]") and "wrote" not in shown
