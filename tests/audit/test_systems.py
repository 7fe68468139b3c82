"""The published systems side by side: what is trained, in which order, and how a row is written."""

from src.audit.systems import CLAIMS, PUBLISHED, SYSTEMS, _cells, configurations, name_of
from src.config import read_values
from src.training.runs import runs_read


def test_every_claim_is_about_runs_that_are_trained_each_after_what_it_reads():
    paths = configurations(SYSTEMS)
    names = [name_of(path) for path in paths]
    assert {name for better, reference, _ in CLAIMS for name in (better, reference)} <= set(names)
    for place, path in enumerate(paths):
        assert set(runs_read(read_values(path))) <= set(names[:place]), path
    assert {name.split("/")[0] for name in names} == set(SYSTEMS) > set(PUBLISHED)


def test_a_row_ends_with_the_published_score_of_its_system():
    interval = [0.1, 0.05, 0.2]
    row = {
        "run": "kaggle_12th/stage2/small_conv", "parameters": 1234, "training_seconds": 8.4,
        "accuracy": 0.9567, "weighted_log_loss": interval, "auc_any": interval, "auc_macro": interval,
        "study_auc_any": interval,
    }  # fmt: skip
    auc = "0.100 [0.050, 0.200]"
    loss = "0.1000 [0.0500, 0.2000]"
    assert _cells(row) == [row["run"], "1,234", "", "8", "", loss, auc, auc, auc, "95.67%", ".0473"]
    assert _cells(row | {"run": "dtvit/stage1/small_vit"})[-1] == ""
