"""What needs no trained network: names, texts, and what is refused before anything is loaded."""

from types import SimpleNamespace
from zipfile import ZipInfo

import pandas as pd
import pytest

from src.ensemble.answering import predictor, study_files
from src.ensemble.answering.answers import usable_images
from src.ensemble.answering.bundle import _check_directory
from src.ensemble.answering.evaluate_table import text_of
from src.ensemble.answering.predictor import Predictor
from src.ensemble.answering.study_files import ABOUT, TABLE, _finished, folder_name
from src.ensemble.answering.study_result import SPREADS, _with_probabilities
from src.errors import UserError
from src.files import fingerprint, write_csv, write_json
from src.labels import LABELS
from tests.training.prepared import write_settings


def test_the_text_of_scores_has_a_line_for_every_label_with_an_area():
    one = {"auc": 0.9, "interval": [0.8, 0.95], "positives": 1200}
    scores = {"images": 5000, "patients": 40, "weighted_log_loss": None, "labels": {"any": one}}
    scores["labels"]["epidural"] = {"auc": None, "interval": None, "positives": 0}
    assert text_of(scores).splitlines() == [
        "5,000 images of 40 patients",
        "any                AUC 0.900 [0.800, 0.950], 1,200 positives",
    ]
    loss = {"value": 0.1, "interval": None}
    assert "weighted log loss  0.1000" in text_of(scores | {"weighted_log_loss": loss}).splitlines()


def test_only_usable_images_can_be_asked_for():
    usable = pd.DataFrame({"status": "ok"}, ["a", "b"])
    assert usable_images(usable, ("b", "a"), "data") == ["b", "a"]
    with pytest.raises(UserError, match=r"^data: 2 of the images asked for .*\(c, \.\.\.\)"):
        usable_images(usable, ["a", "c", "d"], "data")


def test_a_study_s_folder_is_its_id_where_that_is_a_name():
    assert folder_name("1.2.840-x_Y") == "1.2.840-x_Y"
    odd = "../a b"
    assert folder_name(odd) == f"_a_b-{fingerprint(odd)[:8]}"
    assert folder_name("x" * 99) == f"{'x' * 80}-{fingerprint('x' * 99)[:8]}"


def test_a_study_is_answered_when_both_files_say_so(tmp_path):
    study = {"made_from": "f", "study_id": "s"}
    write_json(tmp_path / ABOUT, {"studies": [study]})
    assert _finished(tmp_path, "f") is None
    (tmp_path / TABLE).write_text("level,id\n")
    assert _finished(tmp_path, "f") == {"studies": [study]} and _finished(tmp_path, "g") is None
    write_json(tmp_path / ABOUT, {"studies": [study, study]})
    assert _finished(tmp_path, "f") is None


def test_what_is_called_a_zip_is_a_bundle_even_where_there_is_none(tmp_path):
    with pytest.raises(UserError, match=r"no\.zip: no such file; make one with: python predict\.py"):
        Predictor.load(tmp_path / "no.zip")


def test_one_study_is_written_to_the_folder_itself_and_each_of_several_to_its_own(tmp_path, monkeypatch):
    def predict_one(predictor, study, folder, series, page):
        row = {"level": "study", "id": study.study_id, **dict.fromkeys(LABELS, "0.5")}
        write_csv(folder / TABLE, pd.DataFrame([row]))
        about = {"study_id": study.study_id, "seconds": {}, "slices": 1, "warnings": []}
        write_json(folder / ABOUT, {"studies": [about]})
        return {"studies": [about]}

    monkeypatch.setattr(study_files, "_predict_one", predict_one)
    asked = SimpleNamespace(experiment=SimpleNamespace(synthetic=False), jobs=1, origin={})
    for names in (["s"], ["s", "t"]):
        found = [SimpleNamespace(study_id=name, series={}) for name in names]
        monkeypatch.setattr(study_files, "find_studies", lambda *_, found=found: found)
        out = tmp_path / "".join(names)
        assert study_files.predict_studies(asked, tmp_path, out)["id"].tolist() == names
        folders = [path.name for path in sorted(out.iterdir()) if path.is_dir()]
        assert folders == ([] if names == ["s"] else names)


def test_networks_of_an_experiment_and_of_a_bundle_stay_loaded_and_say_nothing(tmp_path, monkeypatch):
    opened = SimpleNamespace(settings=None, experiment="x", synthetic=True)
    monkeypatch.setattr(predictor, "open_bundle", lambda path, folder: opened)
    monkeypatch.setattr(predictor, "TrainedExperiment", lambda *positions, **names: names)
    settings = write_settings(tmp_path)
    (tmp_path / "x.zip").touch()
    for asked in (Predictor.load("experiments/x", settings), Predictor.load(tmp_path / "x.zip")):
        assert asked.experiment["keep"] is True and asked.experiment["quiet"] is True


def test_a_blend_and_a_precision_are_part_of_what_answers():
    run, blend = SimpleNamespace(fingerprint="r"), SimpleNamespace(to_dict=lambda: {"weights": 1})
    kinds = [(None, None), (blend, None), (None, "bf16")]
    asked = [SimpleNamespace(runs=[run], blend=b, precision=p) for b, p in kinds]
    assert len({Predictor(one).fingerprint for one in asked}) == 3


def test_a_bundle_of_too_many_bytes_and_a_file_that_stands_there_twice_are_refused(tmp_path):
    card, place = ZipInfo("model_card.md"), tmp_path / "x.zip"
    card.file_size = 65 << 30
    archive = SimpleNamespace(infolist=lambda: [ZipInfo("manifest.json"), card])
    with pytest.raises(UserError, match=r"x\.zip: its files have more than 64 GiB; copy or export"):
        _check_directory(archive, {card.filename: {"bytes": card.file_size}}, place)
    archive = SimpleNamespace(infolist=lambda: [ZipInfo("manifest.json")] * 2)
    with pytest.raises(
        UserError, match=r"are not those of its manifest\.json: 'a file that stands there twice'"
    ):
        _check_directory(archive, {}, place)


def test_only_one_study_can_be_asked_for_alone(tmp_path, monkeypatch):
    found = [SimpleNamespace(study_id=name, series={}) for name in "st"]
    monkeypatch.setattr(predictor, "find_studies", lambda *_: found)
    asked = Predictor(SimpleNamespace())
    with pytest.raises(UserError, match=r"holds 2 studies \(s, t\); ask for `studies`, or give one"):
        asked.study(tmp_path)
    monkeypatch.setattr(Predictor, "answer", lambda self, study, series: study.study_id)
    del found[1]
    assert asked.study(tmp_path) == "s"


def test_a_row_has_its_mean_beside_its_spread():
    mean, spread = (pd.DataFrame(value, ["a"], list(LABELS)) for value in (0.5, 0.1))
    (row,) = _with_probabilities(pd.DataFrame({"id": ["a"]}), mean, spread).to_dict("records")
    assert row == {"id": "a", **dict.fromkeys(LABELS, 0.5), **dict.fromkeys(SPREADS, 0.1)}
