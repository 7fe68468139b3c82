"""New studies in, answers out: the same by file names, orientations and bundles, as of the test part."""

import hashlib
import json
import shutil
import sys
import zipfile

import numpy as np
import pandas as pd
import pytest

from src.data.incoming.find import find_studies
from src.data.incoming.study import prepare_study
from src.data.preparation.options import Options
from src.data.preparation.prepare import prepare
from src.data.prepared import Prepared
from src.ensemble.answering import onnx_export
from src.ensemble.answering.answers import TrainedExperiment
from src.ensemble.answering.bundle import open_bundle, write_bundle
from src.ensemble.answering.export import export_bundle
from src.ensemble.answering.onnx_export import export_onnx
from src.ensemble.answering.predictor import Predictor, Refused
from src.ensemble.answering.study_files import predict_studies
from src.ensemble.answering.study_result import COLUMNS, SPREADS
from src.errors import UserError
from src.files import read_json
from src.labels import LABELS
from src.training.runs import Run
from tests.data.incoming.studies import volume, write_study
from tests.ensemble.tiny_experiment import CONFIGS, FOLDS

nibabel = pytest.importorskip("nibabel")


@pytest.fixture(scope="session")
def predictor(trained):
    return Predictor(TrainedExperiment(trained[0], "tiny", "cpu", keep=True, quiet=True))


@pytest.fixture(scope="session")
def bundle(trained, tmp_path_factory):
    path = tmp_path_factory.mktemp("bundle") / "tiny.zip"
    experiment = TrainedExperiment(trained[0], "tiny", "cpu", quiet=True)
    return write_bundle(experiment, {"model_card.md": "# tiny\n"}, path)


@pytest.fixture
def study(tmp_path):
    write_study(tmp_path / "study")
    return tmp_path / "study"


def test_a_study_gets_what_the_same_data_prepared_as_any_other_get(predictor, study, tmp_path):
    """One implementation: prepare_data.py's preparation, then the experiment's answers."""
    result = predictor.study(study)
    geometry = {name: value for name, value in predictor.geometry.items() if name != "units"}
    prepare(study, tmp_path / "clean", Options("dicom", **geometry))
    expected = predictor.experiment.predict(Prepared(tmp_path / "clean")).blend
    table = result.probabilities
    assert list(table.columns) == list(COLUMNS)
    slices, whole = table[table["level"] == "slice"], table[table["level"] == "study"]
    assert slices["order"].tolist() == list(range(26))
    assert slices["position_mm"].tolist() == [5.0 * n for n in range(26)]
    assert slices["SOPInstanceUID"].tolist() == [f"1.2.1.1.{n + 1}" for n in range(26)]
    assert (slices["id"] == slices["SOPInstanceUID"]).all() and (table["study_id"] == "1.2.1").all()
    np.testing.assert_array_equal(slices[list(LABELS)], expected.slices)
    np.testing.assert_array_equal(slices[list(SPREADS)], expected.slice_spread)
    np.testing.assert_array_equal(whole[list(LABELS)], slices[list(LABELS)].max().to_frame().T)
    head, answered = table[table["level"] == "study_head"], predictor.experiment.predict
    expected = answered(Prepared(tmp_path / "clean")).head
    np.testing.assert_array_equal(head[list(LABELS)], expected.studies)
    np.testing.assert_array_equal(head[list(SPREADS)], expected.spread)
    assert whole["id"].tolist() == ["1.2.1"] and (whole[list(SPREADS)] >= 0).all(axis=None)
    assert result.volume.shape == (26, 64, 64) and result.volume.dtype == np.int16


def write_nifti(path, hu, axes=(0, 1, 2), flips=(1, 1, 1)):
    """hu (z, y, x) as DICOM has it, stored with axes in another order and direction, as its affine says."""
    affine = np.array([[-1.7, 0, 0, 108], [0, -1.7, 0, 108], [0, 0, 5, 0], [0, 0, 0, 1]])
    image = nibabel.Nifti1Image(hu.transpose(2, 1, 0), affine)
    nibabel.save(image.as_reoriented(np.stack([axes, flips], axis=1)), path)
    return path


@pytest.mark.parametrize(
    ("axes", "flips"),
    [((0, 1, 2), (1, 1, 1)), ((0, 1, 2), (-1, -1, -1)), ((2, 0, 1), (1, -1, 1)), ((1, 2, 0), (-1, 1, -1))],
)
def test_nifti_gives_the_scores_of_dicom_in_any_orientation(predictor, study, tmp_path, axes, flips):
    of_dicom = predictor.study(study).probabilities
    of_nifti = predictor.study(write_nifti(tmp_path / "head.nii.gz", volume(), axes, flips)).probabilities
    np.testing.assert_array_equal(of_nifti[list(LABELS)], of_dicom[list(LABELS)])
    np.testing.assert_array_equal(of_nifti["order"].astype(float), of_dicom["order"].astype(float))
    assert of_nifti.loc[0, "SOPInstanceUID"] == "" and of_nifti.loc[26, "id"] == "head"


def test_shuffled_files_and_a_zip_archive_give_the_same_bytes(predictor, study, tmp_path):
    predict_studies(predictor, study, tmp_path / "out")
    names = [f"{(7 * n) % 26:02d}" for n in range(26)]
    write_study(tmp_path / "shuffled" / "deep", names=names)
    shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path / "shuffled")
    expected = (tmp_path / "out" / "predictions.csv").read_bytes()
    for number, path in enumerate((tmp_path / "shuffled", tmp_path / "packed.zip")):
        predict_studies(predictor, path, tmp_path / str(number))
        assert (tmp_path / str(number) / "predictions.csv").read_bytes() == expected


def test_what_answers_and_what_is_doubtful_is_written_beside_the_numbers(predictor, study, tmp_path):
    (study / "IM010.dcm").unlink()
    table = predict_studies(predictor, study, tmp_path / "out")
    about = read_json(tmp_path / "out" / "predictions.json")
    assert about["experiment"] == "tiny" and about["fingerprint"] == predictor.fingerprint
    assert about["runs"]["tiny/stage2/trees"] == [0, 1] and about["refused"] == []
    assert {"git", "python", "torch", "opencv", "threads"} <= about["versions"].keys()
    (one,) = about["studies"]
    gap = "missing slices: about 1 slice between 45.0 and 55.0 mm; nothing was put in their place"
    assert (one["study_id"], one["slices"], one["warnings"], one["combined"]) == ("1.2.1", 25, [gap], "blend")
    assert [series["chosen"] for series in one["series"]] == [True] and one["left_out"] == []
    assert one["seconds"].keys() == {"prepare", "predict"}
    assert table["id"].tolist() == ["1.2.1"]


@pytest.fixture
def disk(tmp_path):
    """Two good studies, and between them one that is no CT."""
    write_study(tmp_path / "disk" / "a", study="1.2.1", series="1.2.1.1")
    write_study(tmp_path / "disk" / "b", study="1.2.2", series="1.2.2.1", Modality="MR")
    write_study(tmp_path / "disk" / "c", volume(24, seed=50), study="1.2.3", series="1.2.3.1")
    return tmp_path / "disk"


def test_a_bad_study_is_named_and_does_not_stop_the_others(predictor, disk, tmp_path, caplog):
    table = predict_studies(predictor, disk, tmp_path / "out")
    assert table["id"].tolist() == ["1.2.1", "1.2.3"]
    rows = pd.read_csv(tmp_path / "out" / "predictions.csv")
    assert rows.groupby("study_id").size().to_dict() == {"1.2.1": 28, "1.2.3": 26}
    about = read_json(tmp_path / "out" / "predictions.json")
    assert [one["study_id"] for one in about["studies"]] == ["1.2.1", "1.2.3"]
    (refused,) = about["refused"]
    assert refused["study_id"] == "1.2.2" and "Modality is MR" in refused["cause"]
    assert "not predicted: 1.2.2: none of 26 images can be used (not CT 26)" in caplog.text
    alone = predictor.study(disk / "c").probabilities
    expected = pd.read_csv(tmp_path / "out" / "1.2.3" / "predictions.csv")
    np.testing.assert_allclose(alone[list(LABELS)], expected[list(LABELS)], rtol=1e-12)


def test_studies_come_one_after_the_other_and_one_has_to_be_alone(predictor, disk):
    first, second, third = predictor.studies(disk)
    assert (first.study_id, third.study_id) == ("1.2.1", "1.2.3")
    assert isinstance(second, Refused) and "Modality is MR" in second.reason
    with pytest.raises(UserError, match=r"holds 3 studies \(1\.2\.1, 1\.2\.2, 1\.2\.3\); ask for `studies`"):
        predictor.study(disk)


def test_a_stopped_run_goes_on_and_keeps_what_is_there(predictor, disk, tmp_path, monkeypatch):
    out = tmp_path / "out"
    answer, asked = Predictor.answer, []

    def stopped(self, study, series=None):
        asked.append(study.study_id)
        if study.study_id == "1.2.3" and len(asked) == 3:
            raise KeyboardInterrupt
        return answer(self, study, series)

    monkeypatch.setattr(Predictor, "answer", stopped)
    with pytest.raises(KeyboardInterrupt):
        predict_studies(predictor, disk, out)
    assert not (out / "predictions.csv").exists() and not list(out.rglob("*.partial"))
    first = (out / "1.2.1" / "predictions.json").read_bytes()
    predict_studies(predictor, disk, out)
    assert asked == ["1.2.1", "1.2.2", "1.2.3", "1.2.2", "1.2.3"]
    assert (out / "1.2.1" / "predictions.json").read_bytes() == first
    fresh = tmp_path / "fresh"
    predict_studies(predictor, disk, fresh)
    assert (out / "predictions.csv").read_bytes() == (fresh / "predictions.csv").read_bytes()
    write_study(disk / "a", volume(26, seed=9), study="1.2.1", series="1.2.1.1")  # other pixels, same names
    predict_studies(predictor, disk, out)
    assert (out / "1.2.1" / "predictions.json").read_bytes() != first


def test_where_no_study_can_be_used_nothing_is_written(predictor, tmp_path):
    write_study(tmp_path / "mr", Modality="MR")
    with pytest.raises(UserError, match="Modality is MR"):
        predict_studies(predictor, tmp_path / "mr", tmp_path / "out")
    write_study(tmp_path / "mr" / "b", study="1.2.2", series="1.2.2.1", Modality="MR")
    with pytest.raises(UserError, match="none of 2 studies can be used"):
        predict_studies(predictor, tmp_path / "mr", tmp_path / "out")
    with pytest.raises(UserError, match=r"--series 9: no study there has it; series: 1\.2\.1\.1, 1\.2\.2\.1"):
        predict_studies(predictor, tmp_path / "mr", tmp_path / "out", "9")
    assert not (tmp_path / "out").exists()


def test_a_bundle_predicts_the_same_with_nothing_else(predictor, bundle, study, tmp_path):
    alone = tmp_path / "elsewhere.zip"
    shutil.copy(bundle, alone)
    loaded = Predictor.load(alone, settings=tmp_path / "there is none", device="cpu")
    assert loaded.fingerprint == predictor.fingerprint
    expected = predictor.study(study).probabilities
    pd.testing.assert_frame_equal(loaded.study(study).probabilities, expected)


def test_every_network_may_compute_in_another_precision(predictor, bundle, study, tmp_path, monkeypatch):
    """What autocast is asked for, by networks on slices, on sequences and on studies."""
    seen, table = set(), predictor.study(study).probabilities
    for module in ("src.training.slices.prediction", "src.training.studies.stacker_networks"):
        choose = sys.modules[module].autocast_type
        noted = lambda precision, device: seen.add(precision) or choose(precision, device)  # noqa: E731, B023
        monkeypatch.setattr(f"{module}.autocast_type", noted)
    rough = Predictor.load(bundle, device="cpu", precision="bf16")
    difference = (rough.study(study).probabilities[list(LABELS)] - table[list(LABELS)]).abs()
    assert seen == {"bf16"} and 0 < difference.max(axis=None) < 0.02
    assert rough.fingerprint != predictor.fingerprint and rough.origin["precision"] == "bf16"


def test_folds_in_threads_say_the_same(bundle, predictor, study):
    several = Predictor.load(bundle, device="cpu", jobs=3)
    pd.testing.assert_frame_equal(
        several.study(study).probabilities, predictor.study(study).probabilities, check_exact=True
    )


def test_the_same_experiment_gives_the_same_bundle(trained, bundle, tmp_path):
    experiment = TrainedExperiment(trained[0], "tiny", "cpu", quiet=True)
    again = write_bundle(experiment, {"model_card.md": "# tiny\n"}, tmp_path / "again.zip")
    assert again.read_bytes() == bundle.read_bytes()


def test_an_export_says_what_it_is_and_which_thresholds_its_held_out_slices_gave(trained, tmp_path):
    settings, blend = trained
    path = export_bundle(settings, "experiments/tiny", tmp_path / "tiny.zip")
    with zipfile.ZipFile(path) as archive:
        card, points = (
            archive.read("model_card.md").decode(),
            json.loads(archive.read("operating_points.json")),
        )
    assert "Not a medical device" in card and "* tiny/stage2/trees, folds 0, 1" in card
    assert "prepared as size 64" in card and "Combined by blend.json of:" in card
    any_bleeding = points["labels"]["any"]
    assert (points["slices"], any_bleeding["positives"], any_bleeding["negatives"]) == (30, 12, 18)
    oofs = {n: pd.concat([Run(n, k, settings).predictions("oof") for k in FOLDS]) for n in CONFIGS}
    answers = blend.apply(oofs)["any"]
    truth = answers.index.str.endswith(("_1", "_2"))
    point = any_bleeding["sensitivity_90"]
    called = answers.to_numpy() >= point["threshold"]
    assert point["sensitivity"][0] == pytest.approx(called[truth].mean()) and called[truth].mean() >= 0.9
    assert point["specificity"][0] == pytest.approx((~called[~truth]).mean())


def test_slice_classifiers_are_written_as_onnx_that_computes_the_same(trained, tmp_path, monkeypatch):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    written = export_onnx(trained[0], "experiments/tiny", tmp_path / "onnx")
    assert [path.name for path in written] == ["a_fold0.onnx", "a_fold1.onnx"]
    assert all(0 <= difference < 1e-4 for difference in written.values())
    monkeypatch.setattr(onnx_export, "LARGEST_DIFFERENCE", -1.0)
    with pytest.raises(UserError, match="tiny/stage1/a fold 0: its ONNX file gives other logits"):
        export_onnx(trained[0], "experiments/tiny", tmp_path / "other")
    assert list((tmp_path / "other").iterdir()) == []


def changed(bundle, path, **changes):
    """A copy of a bundle with members replaced, added or (None) left out; `manifest` edits its list."""
    with zipfile.ZipFile(bundle) as source, zipfile.ZipFile(path, "w") as target:
        members = {info.filename: source.read(info) for info in source.infolist()}
        manifest = json.loads(members["manifest.json"])
        changes.pop("manifest", lambda _: None)(manifest)
        members = members | {"manifest.json": json.dumps(manifest).encode()} | changes
        for name, data in members.items():
            if data is not None:
                target.writestr(name, data)
    return path


WEIGHTS = "models/tiny/stage1/a/fold0/model.safetensors"
PICKLE, OUTSIDE = "models/tiny/stage1/a/fold0/model.pkl", "models/../../evil/fold0/config.json"


def listed(name, data=b"x"):
    """Adds a member to the list of files, with its true size and checksum."""
    described = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    return lambda manifest: manifest["files"].__setitem__(name, described)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"manifest.json": None}, "no bundle, it has no manifest.json"),
        ({"manifest.json": b"{"}, "its manifest.json is not as it is written"),
        ({"manifest": lambda m: m.update(format=99)}, "of another version of this program"),
        ({"manifest": lambda m: m.update(experiment="../evil")}, "its manifest.json is not as it is written"),
        ({WEIGHTS: None}, "files are not those of its manifest.json: 'models/tiny/stage1/a/fold0/model.safe"),
        ({"extra.txt": b"x"}, "its files are not those of its manifest.json: 'extra.txt'"),
        ({"../evil": b"x", "manifest": listed("../evil")}, "'../evil' has no place in a bundle"),
        ({OUTSIDE: b"x", "manifest": listed(OUTSIDE)}, "has no place in a bundle"),
        ({PICKLE: b"x", "manifest": listed(PICKLE)}, "has no place in a bundle"),
        ({"blend.json": b"{}"}, "sizes are not those of its manifest.json"),
        ({"model_card.md": b"# tinY\n"}, "model_card.md: its checksum does not agree"),
    ],
)  # fmt: skip
def test_a_bundle_that_is_not_as_it_was_written_is_refused(bundle, tmp_path, changes, message):
    path = changed(bundle, tmp_path / "bad.zip", **changes)
    (tmp_path / "opened").mkdir()
    with pytest.raises(UserError, match=message) as raised:
        open_bundle(path, tmp_path / "opened")
    assert str(raised.value).startswith(str(path)) and not (tmp_path / "evil").exists()


def test_a_cut_bundle_and_none_at_all_are_named(bundle, tmp_path):
    cut = tmp_path / "cut.zip"
    cut.write_bytes(bundle.read_bytes()[:-1000])
    for path, message in (
        (cut, "not a zip file"),
        (tmp_path / "no.zip", "no such file; make one with: python"),
    ):
        with pytest.raises(UserError, match=message):
            Predictor.load(path)


def test_a_study_that_was_prepared_otherwise_is_refused(predictor, study, tmp_path):
    (found,) = find_studies(study, tmp_path)
    prepared = prepare_study(found, predictor.geometry | {"size": 32}, tmp_path / "clean")
    with pytest.raises(UserError, match="was trained on slices prepared with size 64, here 32"):
        predictor.experiment.predict(prepared.prepared)


def test_the_package_has_the_predictor(predictor):
    import src

    assert src.Predictor is Predictor
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = src.Nothing
