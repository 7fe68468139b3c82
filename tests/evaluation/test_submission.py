"""A submission has the sample's rows in the sample's order; what differs is named. Any file is scored."""

import numpy as np
import pandas as pd
import pytest

from src.errors import UserError
from src.evaluation.metrics import weighted_log_loss
from src.evaluation.submission import read_sample, score_file, validate_submission, write_submission
from src.labels import LABELS

ORDER = [LABELS[k] for k in (5, 0, 1, 2, 3, 4)]  # a copy of the sample with `any` first
SAMPLE = [f"{image}_{label},0.5" for image in ("ID_b", "ID_a") for label in ORDER]
P = pd.DataFrame(
    [[0.1, 0.2, 0.3, 0.4, 0.5, 0.6], [0.0, 1.0, 1e-9, 0.25, 0.75, 1.0]], ["ID_a", "ID_b"], list(LABELS)
)


def write(path, rows: list[str]):
    path.write_text("\n".join(["ID,Label", *rows]) + "\n")
    return path


@pytest.fixture
def sample(tmp_path):
    return read_sample(write(tmp_path / "sample.csv", SAMPLE))


def test_rows_and_order_are_those_of_the_sample(tmp_path, sample):
    write_submission(tmp_path / "submission.csv", sample, P, eps=1e-6)
    lines = (tmp_path / "submission.csv").read_text().splitlines()
    assert lines[0] == "ID,Label"
    assert [line.split(",")[0] for line in lines[1:]] == [row.split(",")[0] for row in SAMPLE]
    values = [float(line.split(",")[1]) for line in lines[1:]]
    assert values == [1 - 1e-6, 1e-6, 1 - 1e-6, 1e-6, 0.25, 0.75, 0.6, 0.1, 0.2, 0.3, 0.4, 0.5]


def test_what_was_written_is_read_back(tmp_path, sample):
    rng = np.random.default_rng(0)
    p = pd.DataFrame(rng.random((2, 6)), ["ID_a", "ID_b"], list(LABELS))
    write_submission(tmp_path / "submission.csv", sample, p)
    table = validate_submission(tmp_path / "submission.csv", sample)
    assert table.index.tolist() == ["ID_b", "ID_a"]
    np.testing.assert_array_equal(table.loc[p.index], p)


def test_predictions_of_other_images_are_refused(tmp_path, sample):
    with pytest.raises(UserError, match=r"sample.csv: 1 ids where 2 are expected, 1 missing \(ID_b\)"):
        write_submission(tmp_path / "submission.csv", sample, P.loc[["ID_a"]])
    with pytest.raises(UserError, match="ID_z"):
        write_submission(tmp_path / "submission.csv", sample, P.rename({"ID_a": "ID_z"}))
    with pytest.raises(UserError, match="ID_a has any = nan"):
        write_submission(tmp_path / "submission.csv", sample, P.assign(any=[np.nan, 0.5]))
    assert not (tmp_path / "submission.csv").exists()


@pytest.mark.parametrize(
    "rows, named",
    [
        (SAMPLE[:-1], "ID_a_subdural is missing (1 such IDs); expected the 12 rows"),
        ([*SAMPLE, SAMPLE[3]], "ID_b_intraventricular stands twice"),
        ([*SAMPLE, "ID_z_any,0.5"], "1 images are not in"),
        ([*SAMPLE[1:], "ID_b_any,"], "ID_b_any is empty or NaN"),
        ([*SAMPLE[1:], "ID_b_any,1.5"], "ID_b_any is 1.5"),
        ([*SAMPLE[1:], "ID_b_any,-1"], "ID_b_any is -1"),
        ([*SAMPLE[1:], "ID_b_all,0.5"], "'ID_b_all' does not end in"),
    ],
)
def test_the_validator_names_what_differs(tmp_path, sample, rows, named):
    path = write(tmp_path / "submission.csv", rows)
    with pytest.raises(UserError) as error:
        validate_submission(path, sample)
    assert named in str(error.value)
    assert str(path) in str(error.value)


def test_a_further_column_is_refused(tmp_path, sample):
    path = tmp_path / "submission.csv"
    path.write_text("ID,Label,Usage\n" + "\n".join(f"{row},Private" for row in SAMPLE))
    with pytest.raises(UserError, match="the header is ID,Label,Usage; expected ID,Label and no more"):
        validate_submission(path, sample)


def test_a_shuffled_submission_is_valid(tmp_path, sample):
    rows = [row.replace("0.5", f"0.{k:02d}") for k, row in enumerate(SAMPLE)]
    table = validate_submission(write(tmp_path / "submission.csv", rows[::-1]), sample)
    assert table.loc["ID_b", "any"] == 0.0
    assert table.loc["ID_a", "subdural"] == 0.11


@pytest.mark.parametrize("rows", [SAMPLE[:-1], [*SAMPLE, SAMPLE[0]]])
def test_a_damaged_sample_is_refused(tmp_path, rows):
    with pytest.raises(UserError, match="times; take the file as it was published"):
        read_sample(write(tmp_path / "sample.csv", rows))


def test_a_file_scores_what_its_table_scores_in_any_order(tmp_path):
    truth = pd.DataFrame([[0, 1, 0, 0, 0, 1], [0] * 6], ["ID_a", "ID_b"], list(LABELS))
    p = P.clip(0.1, 0.9).loc[["ID_b", "ID_a"]]
    files = [tmp_path / "submission.csv", tmp_path / "labels.csv"]
    for path, table in zip(files, (p, truth), strict=True):
        write(path, [f"{i}_{label},{table.loc[i, label]}" for i in table.index for label in LABELS])
    found = score_file(*files)
    assert found.score == pytest.approx(weighted_log_loss(truth, p), rel=1e-12)
    assert found.baseline == pytest.approx(3 / 7 * np.log(2))  # intraparenchymal and twice any: half each
    assert f"{found.score:.6f}, eps 1e-15, 2 images" in found.text()
    with pytest.raises(UserError, match=r"1 missing \(ID_b\) and 1 unknown \(ID_z\)"):
        score_file(write(files[0], [row.replace("ID_b", "ID_z") for row in SAMPLE]), files[1])
