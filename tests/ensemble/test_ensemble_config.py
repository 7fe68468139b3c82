"""ensemble.json: paths, files made elsewhere, what is refused."""

import json

import pytest

from src.ensemble.ensemble_config import External, load_ensemble
from src.errors import UserError


def load(folder, **values):
    (folder / "ensemble.json").write_text(json.dumps(values))
    return load_ensemble(folder)


def test_files_lie_beside_ensemble_json(tmp_path):
    team, friend = {"oof": "a.csv", "test": "b.csv"}, {"test": "sub/c.csv", "weight": 0.25}
    config = load(tmp_path, external={"team": team, "friend": friend})
    assert config.external == {
        "team": External(oof=str(tmp_path / "a.csv"), test=str(tmp_path / "b.csv")),
        "friend": External(test=str(tmp_path / "sub/c.csv"), weight=0.25),
    }
    assert config.fixed == {"external/friend": 0.25}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"friend": {"test": "c.csv"}}, "give either oof, or a weight for test predictions alone"),
        ({"friend": {"oof": "a.csv", "test": "c.csv", "weight": 0.1}}, "give either oof, or a weight"),
        ({"friend": {"test": "c.csv", "weight": 1.0}}, "weight is 1.0; expected: number above 0 below 1"),
        ({k: {"test": "c.csv", "weight": 0.5} for k in "ab"}, "must sum to less than 1"),
    ],
)
def test_a_weight_belongs_to_files_without_held_out_predictions(tmp_path, files, message):
    with pytest.raises(UserError, match=message):
        load(tmp_path, external=files)


def test_an_experiment_without_ensemble_json_is_told_what_to_write(tmp_path):
    with pytest.raises(UserError, match=r"ensemble\.json: no such file; write \{\} there"):
        load_ensemble(tmp_path)
