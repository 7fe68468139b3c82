"""predict.py --evaluate reads.csv: CQ500's layout, scored by study against the majority of three readers."""

import shutil
import subprocess
import sys

import pandas as pd
import pytest

from src.data.readers.cq500 import read_reads
from src.ensemble.answering.answers import TrainedExperiment
from src.ensemble.answering.evaluate_table import evaluate_table, text_of
from src.evaluation.metrics import weighted_log_loss
from src.evaluation.roc import delong
from src.files import read_json
from src.labels import LABELS
from src.report.transfer_page import evaluation_page
from tests.conftest import ROOT
from tests.data.cq500_files import write_reads, write_series

OPINIONS = {
    1: {"ICH": (1, 1, 0), "SDH": (0, 1, 1)},
    2: {"ICH": (0, 0, 1)},
    3: {"ICH": (1, 1, 1), "IPH": (1, 1, 1), "SDH": (1, 0, 0)},
    4: {},
    9: {"ICH": (1, 1, 1)},  # without files
}
CHOSEN = {1: ("CT Plain", 5.0), 2: ("CT 5mm", 5.0), 3: ("CT PRE CONTRAST", 2.5), 4: ("CT Plain", 5.0)}


@pytest.fixture
def cq500(tmp_path):
    """Images in one folder, reads.csv in another."""
    root = tmp_path / "images"
    for study, (name, step) in CHOSEN.items():
        write_series(root, study, name, step=step)
    write_series(root, 1, "CT PLAIN THIN", slices=20, step=0.625)
    write_series(root, 4, "CT BONE", step=2.5)
    write_reads(tmp_path, OPINIONS)
    return tmp_path / "reads.csv", root


def test_studies_are_scored_against_the_majority_of_their_readers(cq500, trained, tmp_path):
    reads, root = cq500
    tiny = TrainedExperiment(trained[0], "tiny", "cpu", keep=True)
    scores = evaluate_table(tiny, reads, root, tmp_path / "out")
    assert read_json(tmp_path / "out/scores.json") == scores
    assert (scores["images"], scores["labels"], scores["weighted_log_loss"]) == (0, None, None)
    found = scores["studies"]
    assert (found["studies"], found["patients"], found["images"]) == (4, 4, 4 * 16)
    positives = {label: one["positives"] for label, one in found["labels"].items()}
    assert positives == {**dict.fromkeys(LABELS, 0), "any": 2, "subdural": 1, "intraparenchymal": 1}
    said = pd.read_csv(tmp_path / "out/predictions.csv")
    assert said["level"].value_counts().to_dict() == {"slice": 64, "study": 4}
    assert not said["id"].str.contains("BONE|THIN").any()
    studies = said[said["level"] == "study"].set_index("id")[list(LABELS)]
    truth = read_reads(reads).loc[studies.index, list(LABELS)].astype(int)
    assert found["weighted_log_loss"]["value"] == pytest.approx(weighted_log_loss(truth, studies))
    area = delong(truth["any"].to_numpy() == 1, studies["any"].to_numpy())
    assert found["labels"]["any"]["auc"] == pytest.approx(area.auc)
    assert text_of(scores).startswith("4 studies of 4 patients\nweighted log loss ")
    # of the series that was used, not of the thin one beside it
    groups = {(one["by"], one["group"]): one["studies"] for one in scores["subgroups"]}
    assert groups == {("slice step", "up to 2.5 mm"): 1, ("slice step", "2.5 to 5.5 mm"): 3}


def test_the_page_has_studies_and_no_images(cq500, trained, tmp_path):
    reads, root = cq500
    scores = evaluate_table(TrainedExperiment(trained[0], "tiny", "cpu"), reads, root, tmp_path / "out")
    page = evaluation_page("tiny", "reads.csv", scores)
    assert "<h2>By study</h2>" in page and "<h2>By image</h2>" not in page
    assert "labelled studies" in page and "labelled images" not in page
    assert "their images</dt><dd>64</dd>" in page


def test_the_command_scores_studies_of_the_real_reads(realdata, trained, tmp_path):
    """Synthetic images below the numbers of real studies."""
    reads = tmp_path / "reads.csv"
    shutil.copy(realdata / "cq500_reads_and_preds" / "reads.csv", reads)
    bleeds = read_reads(reads)["any"]
    asked = [*bleeds.index[bleeds == 1][:3], *bleeds.index[bleeds == 0][:3]]
    for study in asked:
        write_series(tmp_path, int(study.rsplit("-", 1)[1]), "CT 5mm")
    command = [sys.executable, ROOT / "predict.py", "experiments/tiny", "--settings", trained[0].file]
    command += ["--evaluate", reads, "--out", tmp_path / "out", "--device", "cpu", "--jobs", 1]
    found = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300)
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith("6 studies of 6 patients\n")
    scores = read_json(tmp_path / "out/scores.json")
    area = scores["studies"]["labels"]["any"]
    assert area["positives"] == 3 and 0 <= area["auc"] <= 1 and len(area["interval"]) == 2
    assert (tmp_path / "out/scores.html").exists()
