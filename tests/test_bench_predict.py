"""What the benchmarks of new studies measure."""

import os

import pytest

from benchmarks.bench_demo import seconds_of
from benchmarks.peers import predict_study
from src.errors import UserError
from tests.data.incoming.studies import write_study

torch = pytest.importorskip("torch")


def test_the_usual_code_gives_the_maximum_over_slices_in_order_of_z(tmp_path):
    paths = write_study(tmp_path)
    seen = []

    def cnn(image):
        assert image.shape == (1, 3, 256, 256) and 0 <= image.min() < image.max() <= 1
        seen.append(float(image.mean()))
        return torch.full((1, 6), float(len(seen)))

    answer = predict_study(paths[::-1], cnn, lambda study: (study,), lambda features: features - 26)
    assert len(seen) == 26 and answer.tolist() == [0.5] * 6  # the last of 26 slices, at logit 0
    again = seen.copy()
    seen.clear()
    predict_study(paths, cnn, lambda study: (study,), lambda features: features)
    assert seen == again


def test_the_demo_s_time_goes_from_its_first_image_to_its_report(tmp_path):
    raw, submission = tmp_path / "raw", tmp_path / "out"
    assert seconds_of(raw, submission) is None
    for file, when in ((raw / "stage_2_train" / "a.dcm", 1000), (submission / "report.html", 1500.5)):
        file.parent.mkdir(parents=True)
        file.write_text("")
        os.utime(file, (when, when))
    assert seconds_of(raw, submission) == 500.5
    os.utime(submission / "report.html", (90_000, 90_000))
    with pytest.raises(UserError, match="was not made in one go"):
        seconds_of(raw, submission)
