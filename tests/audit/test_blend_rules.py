"""The study of the rules that decide about a blend: what each takes, and that its populations are as said."""

import json
import sys

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from src.audit import blend_rules
from src.audit.blend_rules import ERRORS, Draw, Errors, alike, chosen_by, simulated, summary
from src.evaluation.bootstrap import PatientBootstrap
from src.evaluation.metrics import WEIGHTS, log_losses
from src.labels import LABELS

WAYS = ("best single", "mean", "mean, logit", "weights, probability", "weights, logit")


def losses_of(means, spread, patients=100):
    """(n, 6) losses of each way: its mean, and noise of its own with the given deviation, a row a patient."""
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 1, (len(means), patients))
    noise -= noise.mean(axis=1, keepdims=True)
    noise /= noise.std(axis=1, keepdims=True)
    rows = np.array(list(means.values()))[:, None] + spread * noise
    return dict(zip(means, np.repeat(rows[:, :, None], 6, axis=2), strict=True))


def test_every_rule_takes_what_it_says():
    means = dict(zip(WAYS, (0.11, 0.12, 0.105, 0.10, 0.104), strict=True)) | {"shrunk": 0.099}
    bootstrap = PatientBootstrap(np.arange(100), 400)
    loud = chosen_by(losses_of(means, 0.05), WAYS, bootstrap)  # a standard error of .007
    assert loud["lowest score"] == "weights, probability"
    assert loud["shrunk towards the mean"] == "shrunk"
    assert loud["outside the noise"] == "best single"
    assert loud["one standard error"] == "mean, logit"  # .005 above the lowest; the best single is .010
    calm = chosen_by(losses_of(means, 0.001), WAYS, bootstrap)
    assert calm["outside the noise"] == calm["one standard error"] == "weights, probability"


def test_a_loss_on_fresh_patients_is_the_expected_one():
    truth, p = np.full((1, 6), 0.25), np.full((1, 6), 0.5)
    fresh = Draw(truth, {}, np.zeros(1))
    np.testing.assert_allclose(fresh.loss(p), np.log(2))
    np.testing.assert_allclose(fresh.loss(truth), -(0.25 * np.log(0.25) + 0.75 * np.log(0.75)))


def test_drawn_members_are_as_good_and_as_calibrated_as_said():
    errors, bleeding = alike(2.0, 4.0), (0.1, 0.2, 0.2, 0.2, 0.2)
    draw, fresh = simulated(errors, bleeding, 1.0)(400, np.random.default_rng(0))
    assert set(np.unique(draw.truth)) == {0, 1} and len(np.unique(fresh.truth)) > 1000
    np.testing.assert_array_equal(draw.truth[:, -1], draw.truth[:, :-1].max(axis=1))
    good, bad = (fresh.loss(p.to_numpy()) @ WEIGHTS for p in fresh.members.values())
    prior = fresh.loss(np.tile(fresh.truth.mean(axis=0), (len(fresh.truth), 1))) @ WEIGHTS
    assert good < 0.8 * bad < 0.8 * prior
    for p in fresh.members.values():
        np.testing.assert_allclose(p.mean(), fresh.truth.mean(axis=0), rtol=0.15)
    _, sharp = simulated(errors, bleeding, 1.3)(20, np.random.default_rng(0))
    assert sharp.loss(sharp.members["m0"].to_numpy()) @ WEIGHTS > good


def test_noise_is_shared_as_said():
    errors = Errors(((1.0,) * 6, (2.0,) * 6), members=0.7, patient=0.5, labels=0.6)
    patients = np.repeat(np.arange(4000), 5)
    first, second = blend_rules.disturbed(np.zeros((20_000, 6)), errors, patients, np.random.default_rng(0))
    assert first.std() == pytest.approx(1, abs=0.02) and second.std() == pytest.approx(2, abs=0.04)
    assert np.corrcoef(first[:, 0], second[:, 0])[0, 1] == pytest.approx(0.7, abs=0.03)
    assert np.corrcoef(first[:, 0], first[:, 1])[0, 1] == pytest.approx(0.6, abs=0.03)
    assert np.corrcoef(first[::5, 0], first[1::5, 0])[0, 1] == pytest.approx(0.5, abs=0.04)


def test_means_are_over_populations_and_errors_over_repeats():
    keys = [("a", 40), ("a", 40), ("b", 40), ("b", 40)]
    index = pd.MultiIndex.from_tuples(keys, names=["population", "patients"])
    table = summary(pd.DataFrame({"rule": [1.0, 3.0, 6.0, 6.0]}, index))
    assert table.loc["rule", (40, "mean")] == 4
    assert table.loc["rule", (40, "se")] == pytest.approx(np.sqrt((2 / 2 + 0) / 2 / 2))


def test_the_command_measures_every_rule(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(blend_rules, "ERRORS", {"two": ERRORS["two"]})
    monkeypatch.setattr(blend_rules, "FRESH", 50)
    out = tmp_path / "rules.json"
    command = ["blend_rules", "--patients", "15", "--repeats", "2", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", command)
    blend_rules.main()
    found = json.loads(out.read_text())
    rules = found["minus_its_loss"]["15"]
    assert found["rule"] == "lowest score" and rules["lowest score"]["mean"] == 0
    assert {"outside the noise", "shrunk towards the mean", "one standard error"} < set(rules)
    assert set(rules["mean"]["populations"]) == {"contest, calibrated, two", "enriched, over-confident, two"}
    assert "steps outside the noise" in capsys.readouterr().out


def test_real_predictions_are_read_by_name_and_split_by_patient(tmp_path):
    rng = np.random.default_rng(0)
    classes = [LABELS[k] for k in (5, 0, 1, 2, 3, 4)]
    z = rng.normal(-1, 2, (240, 6))
    labels = rng.random(z.shape) < expit(z)
    names = np.array([f"ID_{k}" for k in range(240)])
    np.savez(tmp_path / "p.npz", image=names.astype("S"), preds=expit(z), labels=labels, classes=classes)
    table = pd.DataFrame({"Image": names[40:], "PatientID": [f"p{k // 5}" for k in range(200)]})
    table.loc[0, "PatientID"] = None
    table.to_csv(tmp_path / "images.csv")
    draw = blend_rules.disturbed_real(tmp_path / "p.npz", [tmp_path / "images.csv"], alike(0.5, 0.5))
    chosen, fresh = draw(10, np.random.default_rng(0))
    assert len(np.unique(chosen.patients)) == 10 and len(np.unique(fresh.patients)) == 30
    assert not set(chosen.patients) & set(fresh.patients)
    assert len(chosen.truth) + len(fresh.truth) == 199
    any_loss = log_losses(fresh.truth[:, -1] == 1, fresh.members["m0"]["any"].to_numpy()).mean()
    assert any_loss < 0.9 * np.log(2)  # columns in another order would know nothing
    total = np.concatenate([chosen.truth, fresh.truth]).sum(axis=0)
    np.testing.assert_array_equal(total, labels[41:][:, [1, 2, 3, 4, 5, 0]].sum(axis=0))
