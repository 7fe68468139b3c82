"""predict.py --labelled: a tiny trained experiment scored on studies of strangers, by image and by study."""

import json
import re
import shutil
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from src.data.prepared import Prepared
from src.ensemble.answering.answers import Answer, Answers, TrainedExperiment
from src.ensemble.answering.transfer import Truth, answer_table, score_transfer, transfer_scores
from src.errors import UserError
from src.evaluation.metrics import weighted_log_loss
from src.evaluation.roc import delong_paired
from src.files import read_json
from src.labels import LABELS, SUBTYPES
from src.report.transfer_page import transfer_page
from tests.conftest import ROOT
from tests.training.prepared import rewrite, write_clean


@pytest.fixture
def scored(elsewhere, tmp_path):
    out = tmp_path / "out"
    scores = score_transfer(elsewhere, "experiments/tiny", ["tiny/stage1/a"], out, "cpu", 1, True)
    return elsewhere, out, scores


def test_labelled_images_and_their_studies_are_scored_and_nothing_is_left_behind(scored):
    settings, out, scores = scored
    assert sorted(path.name for path in out.iterdir()) == ["predictions.csv", "transfer.json"]
    assert read_json(out / "transfer.json") == scores
    slices = Prepared(settings.clean).slices.set_index("image_id")
    labels = slices.loc[slices["split"] == "train", list(LABELS)].astype("int8")
    answers = TrainedExperiment(settings, "tiny", "cpu").predict(Prepared(settings.clean), list(labels.index))
    blend = scores["members"]["blend"]
    assert (blend["images"], blend["patients"], blend["studies"]["studies"]) == (45, 9, 9)
    expected = weighted_log_loss(labels, answers.blend.slices)
    assert blend["weighted_log_loss"]["value"] == pytest.approx(expected, abs=1e-6)
    subtypes = [
        SUBTYPES[study % 5] for study in range(9)
    ]  # every study bleeds, with the subtype of its number
    found = {label: blend["studies"]["labels"][label]["positives"] for label in LABELS}
    assert found == {**{label: subtypes.count(label) for label in SUBTYPES}, "any": 9}
    assert blend["studies"]["labels"]["any"]["auc"] is None  # no study without bleeding
    assert list(scores["members"]) == [*answers.members, "blend"] and scores["left_out"] == 0


def test_predictions_have_a_row_for_every_study_and_slice_with_spreads(scored):
    settings, out, _ = scored
    table = pd.read_csv(out / "predictions.csv")
    assert list(table) == ["level", "id", *LABELS, *(f"{label}_spread" for label in LABELS)]
    assert table["level"].value_counts().to_dict() == {"slice": 45, "study": 9}
    slices, studies = (table[table["level"] == level].set_index("id") for level in ("slice", "study"))
    study_of = Prepared(settings.clean).slices.set_index("image_id")["study_id"]
    largest = slices[list(LABELS)].groupby(study_of.loc[slices.index]).max()
    np.testing.assert_allclose(studies.loc[largest.index, list(LABELS)], largest)


def test_everybody_is_compared_with_the_reference_on_the_same_studies(scored):
    settings, _, scores = scored
    assert [one["second"] for one in scores["comparisons"]] == ["tiny/stage1/a"] * 5
    answers = TrainedExperiment(settings, "tiny", "cpu").predict(Prepared(settings.clean))
    one = next(c for c in scores["comparisons"] if c["first"] == "tiny/stage1/b")
    of = {name: answers.members[f"tiny/stage1/{name}"].studies["epidural"] for name in "ab"}
    labelled = [f"other/study{study:02d}".replace("0", "o") for study in range(9)]
    y = np.array([SUBTYPES[study % 5] == "epidural" for study in range(9)])
    expected = delong_paired(y, of["b"].loc[labelled].to_numpy(), of["a"].loc[labelled].to_numpy())
    found = one["studies"]["auc"]["epidural"]
    assert found["difference"] == pytest.approx(expected.difference)
    assert found["p"] == pytest.approx(expected.p)
    apart = [
        scores["members"][name]["weighted_log_loss"]["value"] for name in ("tiny/stage1/b", one["second"])
    ]
    assert one["images"]["weighted_log_loss"]["value"] == pytest.approx(apart[0] - apart[1])


def test_predictions_of_another_call_are_a_reference_beside_a_member(scored, tmp_path):
    settings, out, scores = scored
    file = tmp_path / "shorter" / "predictions.csv"
    table = pd.read_csv(out / "predictions.csv")
    file.parent.mkdir()
    table[~table["id"].str.contains("studyo1|imageo1")].to_csv(file, index=False)
    asked = ["tiny/stage1/a", str(file)]
    found = score_transfer(settings, "tiny", asked, tmp_path / "again", "cpu", 1, True)
    first, second = (found["comparisons"][:5], found["comparisons"][5:])
    assert first == scores["comparisons"] and [one["second"] for one in second] == ["shorter"] * 6
    blend = second[-1]  # with itself
    assert (blend["first"], blend["images"]["rows"], blend["studies"]["rows"]) == ("blend", 40, 8)
    assert blend["images"]["weighted_log_loss"]["value"] == pytest.approx(0, abs=1e-9)
    assert blend["studies"]["auc"]["epidural"]["difference"] == pytest.approx(0, abs=1e-9)
    answers = TrainedExperiment(settings, "tiny", "cpu").predict(Prepared(settings.clean))
    studies = table[(table["level"] == "study") & ~table["id"].str.contains("studyo1")].set_index("id")
    y = np.array([SUBTYPES[int(name[-1].replace("o", "0")) % 5] == "epidural" for name in studies.index])
    a = answers.members["tiny/stage1/a"].studies.loc[studies.index, "epidural"].to_numpy()
    expected = delong_paired(y, a, studies["epidural"].to_numpy())
    paired = second[0]["studies"]["auc"]["epidural"]
    assert (paired["difference"], paired["p"]) == pytest.approx((expected.difference, expected.p))
    page = transfer_page(found)
    assert page.count("<h2>Against ") == 2 and "<h2>Against shorter</h2>" in page
    assert len(re.findall('<th scope="row">blend</th>', page)) == 4


def test_what_is_no_answer_to_the_same_images_is_refused_before_networks_are_asked(scored, tmp_path):
    settings, out, _ = scored
    table = pd.read_csv(out / "predictions.csv").astype({"any": object})
    file = tmp_path / "predictions.csv"

    def refused(changed, message):
        changed.to_csv(file, index=False)
        with pytest.raises(UserError, match=message):
            score_transfer(settings, "tiny", [str(file)], tmp_path / "again", "cpu", 1, True)

    refused(table.drop(columns="any"), "predictions.csv: the column any is missing; give a predictions.csv")
    for wrong in ("", "high", "1.5"):
        changed = table.copy()
        changed.loc[3, "any"] = wrong
        refused(changed, "predictions.csv: a probability is not a number from 0 to 1; give")
    assert not (tmp_path / "again").exists()
    message = f"--against {tmp_path.name}: answers none of these images; give answers of the same"
    refused(table.assign(id="x" + table["id"]), message)


def test_labels_of_studies_alone_are_scored_by_study_as_cq500_has_them(trained, elsewhere):
    def of_studies(slices):
        return slices.assign(**dict.fromkeys(LABELS, pd.array([pd.NA] * len(slices), "Int8")))

    rewrite(elsewhere.clean, "slices.parquet", of_studies)
    prepared = Prepared(elsewhere.clean)
    with pytest.raises(UserError, match="no usable image or study has one of the six labels"):
        Truth.of(prepared)
    number = prepared.studies["study_id"].str.replace("o", "0").str[-2:].astype(int)
    prepared.studies = prepared.studies.assign(**{label: (number % 2) for label in LABELS})
    truth = Truth.of(prepared)
    answers = TrainedExperiment(elsewhere, "tiny", "cpu").predict(prepared, list(truth.study_of.index))
    scores = transfer_scores("tiny", answers, truth, [], {})["members"]["blend"]
    assert (scores["images"], scores["labels"], scores["weighted_log_loss"]) == (0, None, None)
    assert (scores["studies"]["images"], scores["studies"]["studies"]) == (60, 12)
    assert scores["studies"]["labels"]["any"]["positives"] == 6


def test_a_studys_own_label_counts_and_a_maximum_only_where_every_image_is_labelled(elsewhere):
    slices = Prepared(elsewhere.clean).slices.set_index("image_id")
    gone = slices.index[(slices["study_id"] == "other/studyo1") & (slices["order"] == 4)]

    def change(table):
        table.loc[table["image_id"].isin(gone), list(LABELS)] = pd.NA
        return table

    rewrite(elsewhere.clean, "slices.parquet", change)
    truth = Truth.of(Prepared(elsewhere.clean))
    assert len(truth.slices.labels) == 44 and "other/studyo1" not in truth.studies.labels.index
    assert gone[0] in truth.study_of.index  # asked for all the same: its study has labelled images


def test_only_what_was_answered_is_scored():
    index = pd.Index(["a1", "a2", "b1"], name="image_id")
    studies = pd.Series(["a", "a", "b"], index)
    p = pd.DataFrame(0.25, index, list(LABELS))
    answer = Answer.of(p.iloc[:2], [p.iloc[:2]], studies)

    table = pd.DataFrame(0, index, list(LABELS)).reset_index()
    table = table.assign(study_id=["a", "a", "b"], patient_id=["p", "p", "q"], status="ok", pixel_hash=index)
    made = SimpleNamespace(slices=table, studies=pd.DataFrame({"study_id": ["a", "b"]}))
    answers = Answers({"x/stage1/y": answer}, answer, "mean", ["b1"])
    truth = Truth.of(made)
    assert (truth.slices.by_study, truth.studies.by_study) == (False, True)
    scores = transfer_scores("x", answers, truth, [], {})
    assert scores["left_out"] == 1
    assert scores["members"]["mean"]["images"] == 2
    assert scores["members"]["mean"]["weighted_log_loss"]["value"] == pytest.approx(-np.log(0.75))
    assert scores["members"]["mean"]["studies"]["studies"] == 1
    assert scores["baseline"] == {
        "images": pytest.approx(0, abs=1e-12),
        "studies": pytest.approx(0, abs=1e-12),
    }
    assert answer_table(answer)[["level", "id"]].to_numpy().tolist() == [
        ["study", "a"], ["slice", "a1"], ["slice", "a2"],
    ]  # fmt: skip


def test_the_page_says_synthetic_and_shows_every_member(scored):
    _, _, scores = scored
    page = transfer_page(scores)
    assert "SYNTHETIC" not in page
    scores["data"]["synthetic"] = True
    assert "SYNTHETIC images" in transfer_page(scores)
    for title in ("By study", "By image", "Against tiny/stage1/a"):
        assert f"<h2>{title}</h2>" in page
    for name in scores["members"]:
        assert len(re.findall(f'<th scope="row">{name}</th>', page)) == (2 if name == "tiny/stage1/a" else 3)
    assert "nan" not in re.sub("<style>.*</style>", "", page, flags=re.S).lower()


def test_the_command_goes_on_where_it_was_killed_and_ends_alike(elsewhere, tmp_path, scored):
    def run(*more):
        command = [sys.executable, str(ROOT / "predict.py"), "experiments/tiny", "--jobs", "1", *more]
        return subprocess.run(command, capture_output=True, text=True, timeout=300)

    settings = ["--settings", str(elsewhere.file)]
    assert run(*settings, "--labelled").returncode == 2  # where to?
    assert run(*settings, "--out", str(tmp_path)).returncode == 2
    first = tmp_path / "first"
    # what a killed run leaves: outputs of some folds, no scores
    TrainedExperiment(elsewhere, "tiny", "cpu").predict(Prepared(elsewhere.clean), folder=first / "outputs")
    (first / "outputs/all/tiny/stage2/trees/fold1/test.parquet").unlink()
    found = run(*settings, "--labelled", "--out", str(first), "--against", "tiny/stage1/a", "--device", "cpu")
    assert found.returncode == 0, found.stderr
    left = ["predictions.csv", "transfer.html", "transfer.json"]
    assert sorted(path.name for path in first.iterdir()) == left
    assert json.loads((first / "transfer.json").read_text()) == scored[2]
    found = run(*settings, "--labelled", "--out", str(first), "--against", "tiny/stage1/c")
    assert (
        found.returncode == 1 and "is no member of this experiment; these are tiny/stage1/a" in found.stderr
    )


def test_data_that_do_not_fit_are_refused_in_a_line(trained, elsewhere, tmp_path):
    shutil.rmtree(elsewhere.clean)
    write_clean(elsewhere.clean)
    rewrite(elsewhere.clean, "slices.parquet", lambda slices: slices.assign(units="gray"))
    with pytest.raises(UserError, match="was trained on slices prepared with units hu, here gray; prepare"):
        score_transfer(elsewhere, "tiny", [], tmp_path / "out", "cpu", 1, True)
