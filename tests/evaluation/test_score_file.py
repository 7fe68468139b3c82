"""Scoring a submission file: the contest's metric on the same images, in any order."""

import numpy as np
import pandas as pd
import pytest

from src.data.contest_csv import read_long
from src.ensemble.ensemble_config import External, load_ensemble
from src.ensemble.external import read_external
from src.errors import UserError
from src.evaluation.metrics import weighted_log_loss
from src.evaluation.score_file import score_file
from src.labels import LABELS


def write(path, table, rows=None):
    lines = [f"{i}_{label},{table.loc[i, label]}" for i in table.index for label in LABELS]
    path.write_text("\n".join(["ID,Label", *lines[:rows]]) + "\n")
    return path


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    index = ["ID_a", "ID_b", "ID_c"]
    labels = pd.DataFrame(rng.integers(0, 2, (3, 6)), index, list(LABELS))
    labels["any"] = labels.drop(columns="any").max(axis=1)
    p = pd.DataFrame(rng.uniform(0.1, 0.9, (3, 6)), index[::-1], list(LABELS))
    return write(tmp_path / "labels.csv", labels), write(tmp_path / "submission.csv", p), labels, p


def test_a_file_scores_what_its_table_scores(files):
    labels_file, submission, labels, p = files
    found = score_file(submission, labels_file)
    assert found.score == pytest.approx(weighted_log_loss(labels, p))
    assert found.images == 3
    assert f"{found.score:.6f}, eps 1e-15, 3 images" in found.text()


def test_other_images_are_named(files, tmp_path):
    labels_file, _, _, p = files
    other = write(tmp_path / "other.csv", p.rename({"ID_b": "ID_z"}))
    with pytest.raises(UserError, match=r"1 missing \(ID_b\) and 1 unknown \(ID_z\)"):
        score_file(other, labels_file)


def test_external_members_are_read_beside_ensemble_json_without_quarantined_images(files, tmp_path):
    team = '{"oof": "submission.csv", "test": "submission.csv"}'
    (tmp_path / "ensemble.json").write_text(f'{{"external": {{"team": {team}}}}}')
    config = load_ensemble(tmp_path)
    assert config.external == {"team": External(oof=str(files[1]), test=str(files[1]))}
    slices = pd.DataFrame({"image_id": ["ID_a", "ID_b"], "status": ["ok", "quarantined"]})
    oof, test = read_external(config.external, slices)["external/team"]
    pd.testing.assert_frame_equal(oof, read_long(files[1], labels=False))
    assert test.index.tolist() == ["ID_c", "ID_a"]
