"""Step 4: predict the test slices with every complete run folder of an experiment, or any new study.

    python predict.py experiments/baseline
    python predict.py experiments/baseline --study DICOM_FOLDER --out DIR
    python predict.py experiments/baseline --export bundle.zip
    python predict.py --bundle bundle.zip --study STUDY.zip --out DIR
    python predict.py experiments/baseline --settings OTHER.json --labelled --out DIR [--against RUN]
    python predict.py experiments/baseline --evaluate TABLE.csv [--root FOLDER] --out DIR [--against FILE]

Reads CLEAN_DATA_DIR and MODEL_DIR; writes test.parquet (and test_embeddings.npy, stage 1) to each run folder,
also of runs of other experiments that its ensemble.json names. What is predicted already is skipped.

--study: a folder of DICOM files, one that holds several studies, a zip archive of such a folder, or a NIfTI
file. It is prepared as the training data were and answered by every fold, stacker and blend, without any of
the training data. Stated rules choose its axial head series without contrast (--series overrules them).
predictions.csv has a row for every slice and one for the study, the maximum (and one of level study_head
where a stacker has a head for studies): probabilities, and their spread over the folds; predictions.json
says what was chosen, what was left out and why, and what is doubtful; study.html shows the slices through any
window with their probabilities and Grad-CAM maps.

--export: networks, blend, operating points and model card in one file, with which --bundle answers
--study and --evaluate anywhere.
--onnx: every slice classifier as an ONNX file of its own, compared with torch.

--labelled: every labelled image of CLEAN_DATA_DIR, whatever its data set, is answered by every complete fold
and by the experiment's blend (the mean of its members where ensemble.py has fitted none); a patient that was
learned from, only by the fold that held him out. predictions.csv, transfer.json and transfer.html with scores
by image and by study go to --out, nothing to the run folders. --against: a member, the folder of another
experiment, or predictions.csv of the same images, that every member is compared with, pair by pair: log loss
with patients drawn, areas of studies by DeLong's paired test. Several may be named.

--evaluate: the same for every image of a table, without a step before: a row an image, `path` or `image_id`
(a file below --root), labels, and where known patient_id, study_id, position_mm, window_center, window_width
(all columns: docs/data_card.md). predictions.csv, scores.json and scores.html go to --out, with scores by
slice step, padding and scanner format where these are known. CQ500's reads.csv is a table too: its studies
below --root are scored by study, against the majority of the readers. --against: the predictions.csv of
another experiment for the same table, or a member.
"""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from src.command_line import check_folder, command_line, run, start_logging

if TYPE_CHECKING:
    from src.ensemble.answering.predictor import Predictor


def main() -> None:
    arguments = parse_arguments()
    start_logging(arguments.quiet)
    if arguments.out is not None:
        check_folder("--out", arguments.out)
    if arguments.export is not None:
        export(arguments)
    elif arguments.onnx is not None:
        write_onnx(arguments)
    elif arguments.study is not None:
        predict_new_studies(arguments)
    elif arguments.evaluate is not None:
        evaluate(arguments)
    elif arguments.labelled:
        score_labelled(arguments)
    else:
        predict_test_part(arguments)


def predict_test_part(arguments: Namespace) -> None:
    """Step 4 itself."""
    from src.ensemble.ensemble_config import named_members
    from src.settings import load_settings
    from src.training.launch import predict_runs

    settings = load_settings(arguments.settings)
    members = named_members(arguments.experiment)
    predict_runs(settings, arguments.experiment, arguments.device, arguments.jobs, arguments.quiet, members)


def load(arguments: Namespace) -> Predictor:
    """The experiment, or the bundle."""
    from src.ensemble.answering.predictor import Predictor

    options = {name: getattr(arguments, name) for name in ("device", "jobs", "precision")}
    if arguments.bundle is not None:
        return Predictor.from_bundle(arguments.bundle, **options)
    return Predictor.load(arguments.experiment, arguments.settings, **options)


def predict_new_studies(arguments: Namespace) -> None:
    """Files in --out."""
    from functools import partial

    from src.ensemble.answering.study_files import predict_studies
    from src.report.study.new_study_page import write_new_study_page

    page = partial(write_new_study_page, identified=arguments.identified, maps=not arguments.no_maps)
    table = predict_studies(load(arguments), arguments.study, arguments.out, arguments.series, page)
    if not arguments.quiet:
        print(table.to_string(index=False))
        print(f"predictions: {arguments.out / 'predictions.csv'}, with study.html beside them")


def export(arguments: Namespace) -> None:
    """One file."""
    from src.ensemble.answering.export import export_bundle
    from src.settings import load_settings

    path = export_bundle(load_settings(arguments.settings), arguments.experiment, arguments.export)
    if not arguments.quiet:
        print(f"bundle: {path}, {path.stat().st_size / 1e6:.1f} MB")


def write_onnx(arguments: Namespace) -> None:
    """A file a fold."""
    from src.ensemble.answering.onnx_export import export_onnx
    from src.settings import load_settings

    written = export_onnx(load_settings(arguments.settings), arguments.experiment, arguments.onnx)
    if not arguments.quiet:
        for path, difference in written.items():
            print(f"{path}: logits within {difference:.1g} of torch's")


def score_labelled(arguments: Namespace) -> None:
    """Files in --out."""
    from src.ensemble.answering.transfer import score_transfer
    from src.files import write_text
    from src.report.transfer_page import transfer_page
    from src.settings import load_settings

    scores = score_transfer(
        load_settings(arguments.settings), arguments.experiment, arguments.against, arguments.out,
        arguments.device, arguments.jobs, arguments.quiet,
    )  # fmt: skip
    write_text(arguments.out / "transfer.html", transfer_page(scores))
    if not arguments.quiet:
        print(f"scores: {arguments.out / 'transfer.json'}\npage:   {arguments.out / 'transfer.html'}")


def evaluate(arguments: Namespace) -> None:
    """Files in --out."""
    from src.ensemble.answering.evaluate_table import evaluate_table, text_of
    from src.files import write_text
    from src.report.transfer_page import evaluation_page

    predictor = load(arguments)  # it holds the folder of an opened bundle
    scores = evaluate_table(
        predictor.experiment, arguments.evaluate, arguments.root, arguments.out, arguments.jobs,
        arguments.against,
    )  # fmt: skip
    name, table = predictor.experiment.name, arguments.evaluate
    write_text(arguments.out / "scores.html", evaluation_page(name, table.name, scores))
    if not arguments.quiet:
        print(f"{text_of(scores)}\nscores: {arguments.out / 'scores.json'}, with scores.html beside it")


def parse_arguments() -> Namespace:
    parser = command_line(__doc__, device=True)
    add = parser.add_argument
    add("experiment", metavar="EXPERIMENT", nargs="?", help="a folder such as experiments/baseline")
    add("--study", type=Path, metavar="PATH", help="a new study, or a folder of several")
    add("--series", metavar="UID", help="with --study: the series to use, against the rules' choice")
    add("--identified", action="store_true", help="with --study: ids and file names on the page too")
    add(
        "--no-maps",
        action="store_true",
        help="with --study: a page without Grad-CAM, in two thirds of the time",
    )
    text = (
        "with --study, --evaluate: of all networks; bf16 is faster where the CPU has it (default: as trained)"
    )
    add("--precision", choices=("fp32", "bf16", "fp16"), help=text)
    add("--bundle", type=Path, metavar="FILE", help="an exported bundle, in place of EXPERIMENT")
    add("--export", type=Path, metavar="FILE", help="write the experiment as a bundle, one zip file")
    add("--onnx", type=Path, metavar="DIR", help="write every slice classifier as ONNX")
    add("--labelled", action="store_true", help="answer and score the labelled images of CLEAN_DATA_DIR")
    text = "with --labelled, --evaluate: a member, another experiment or a predictions.csv to compare with"
    add("--against", nargs="+", default=[], metavar="RUN|FILE", help=text)
    add("--evaluate", type=Path, metavar="TABLE", help="answer and score the images of a labelled table")
    add("--root", type=Path, metavar="FOLDER", help="of the table's images (default: where the table lies)")
    add("--out", type=Path, metavar="DIR", help="where the answers and scores go")
    arguments = parser.parse_args()
    if (arguments.experiment is None) == (arguments.bundle is None):
        parser.error("give either an EXPERIMENT or --bundle FILE")
    asked = [name for name in ("study", "export", "onnx", "labelled", "evaluate") if getattr(arguments, name)]
    if len(asked) > 1:
        parser.error(f"--{' and --'.join(asked)} exclude each other")
    if (asked not in ([], ["export"], ["onnx"])) != (arguments.out is not None):
        parser.error("--out belongs to --study, --labelled or --evaluate, and they need it")
    for flag in ("series", "identified", "no_maps"):
        if getattr(arguments, flag) and arguments.study is None:
            parser.error(f"--{flag.replace('_', '-')} needs --study")
    if arguments.precision and asked not in (["study"], ["evaluate"]):
        parser.error("--precision needs --study or --evaluate")
    if arguments.bundle and asked not in (["study"], ["evaluate"]):
        parser.error("--bundle needs --study or --evaluate")
    if arguments.root and arguments.evaluate is None:
        parser.error("--root needs --evaluate TABLE")
    if arguments.against and asked not in (["labelled"], ["evaluate"]):
        parser.error("--against needs --labelled or --evaluate")
    return arguments


if __name__ == "__main__":
    run(main)
