"""The page of one study as text: words and numbers, nothing a file says becomes markup, nobody is named."""

import json
import re

import numpy as np
import pandas as pd
import pytest

from src.data.windows import WINDOWS
from src.labels import LABELS
from src.report.study.study_page import (
    ShownStudy,
    _marks,
    _ranges,
    _ticks,
    render_study_page,
    write_study_page,
)
from tests.report.study.study_example import COUNT, IDS, example, volume

NAMES = {"patient": "Muster^Erika", "patient id": "P-4711", "study date": "20190501"}
SERIES = pd.DataFrame(
    {
        "series": ["1.2.840.5.1", "1.2.840.5.2"],
        "description": ["HEAD ERIKA 5.0", None],
        "slices": [12, 200],
        "step_mm": [5.0, np.nan],
        "length_mm": [55.0, np.nan],
        "against": [None, "no axial CT slice: <localizer>"],
        "chosen": [True, False],
    }
)
LEFT_OUT = pd.DataFrame(
    {
        "name": ["head/Muster_1.dcm", "a/b.dcm", "c.dcm"],
        "cause": ["other series: 1.2.840.5.1 was chosen"] * 2 + ["unreadable"],
    }
)


def body(page: str) -> str:
    """Without style and programs."""
    return re.sub(r"<script.*?</script>", "", page[page.index("<body>") :], flags=re.S)


def words(page: str) -> str:
    """What is seen, in one line."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", body(page)))


def data(page: str) -> dict:
    return json.loads(re.search(r'id="data">(.*?)</script>', page, flags=re.S)[1])


def named(**other) -> ShownStudy:
    warnings = [f"unusable slice: {IDS[0]}: truncated", "of MUSTER, on 20190501, in Muster_1.dcm and a head"]
    return example(identity=NAMES, series=SERIES, left_out=LEFT_OUT, warnings=warnings, **other)


def test_the_study_in_words():
    seen = words(render_study_page(example()))
    assert (
        "Research software, not a medical device." in seen
        and "Trained on SYNTHETIC images: probabilities say nothing about a patient" in seen
    )
    subdural = (
        "subdural between the dura and the brain's surface 0.900 ± 0.090 0.500 90 % 80 % 3 of 12: 5-7 slice 6"
    )
    assert subdural.replace("'", "&#39;").replace("±", "&plusmn;") in seen
    assert "epidural between the skull and the dura 0.020 &plusmn; 0.002 none slice 1" in seen
    assert "pixel size 0.40 x 0.50 mm" in seen and "from lowest to highest 55 mm" in seen
    assert "every HU from -1024 to 3071 is exact" in seen


def test_what_is_unknown_is_left_out():
    bare = example(
        spread=None, study_spread=None, positions_mm=None, spacing_mm=None, axes=None, points={}, maps={},
        synthetic=False,
    )  # fmt: skip
    page = render_study_page(bare)
    for part in ("perating point", "folds", " mm<", 'class="mark', "SYNTHETIC", 'name="map"'):
        assert part in body(render_study_page(example())) and part not in body(page), part
    assert not re.search(r"\bnan\b", words(page))
    assert data(page)["positions"] == [None] * COUNT and data(page)["maps"] == {}


def test_one_fold_alone_has_no_spread():
    alone = example()
    page = body(render_study_page(example(spread=alone.spread * np.nan, study_spread=alone.study * np.nan)))
    assert "folds" not in page and 'class="whisker" d=""' in page and not re.search(r"\bnan\b", words(page))


def test_nobody_is_named_unless_that_is_asked_for(tmp_path):
    write_study_page(tmp_path / "anonymous.html", named())
    write_study_page(tmp_path / "named.html", named(), identified=True)
    anonymous, full = ((tmp_path / f"{name}.html").read_text() for name in ("anonymous", "named"))
    for secret in ("Muster", "Erika", "P-4711", "20190501", "1.2.840", "b.dcm"):
        assert secret.lower() not in anonymous.lower(), secret
        assert secret in full, secret
    assert "HEAD" not in anonymous and "1 12 5.0 mm 55.0 mm chosen nothing" in words(anonymous)
    assert "of [withheld], on [withheld], in [withheld] and a head" in anonymous
    assert "2 files: other series: [withheld] was chosen" in words(anonymous)
    assert "2 files: other series: 1.2.840.5.1 was chosen (head/Muster_1.dcm, a/b.dcm)" in words(full)


def test_the_series_and_what_speaks_against_them():
    seen = words(render_study_page(named(), identified=True))
    assert "HEAD ERIKA 5.0 1.2.840.5.1 12 5.0 mm 55.0 mm chosen nothing" in seen
    assert "no description 1.2.840.5.2 200 not used no axial CT slice: &lt;localizer&gt;" in seen


def test_texts_of_files_never_become_markup():
    bad = '</script><script>alert(1)</script><img src=x onerror="alert(2)">'
    index = pd.Index([bad, *IDS[1:]])
    result = example()
    page = render_study_page(
        example(
            slices=result.slices.set_axis(index),
            spread=None,
            title=bad,
            answered_by=bad,
            warnings=[bad],
            identity={bad: bad},
            series=SERIES.assign(description=bad, series=bad, against=bad),
            left_out=LEFT_OUT.assign(name=bad, cause=bad),
        ),
        identified=True,
    )
    assert "<img" not in page and "<script>alert" not in page and 'onerror="' not in page
    assert page.count("</script>") == COUNT + 2


def test_programs_get_every_number():
    found = data(render_study_page(example()))
    assert found["labels"][0] == "any" and sorted(found["labels"]) == sorted(LABELS)
    assert found["probabilities"][5] == [0.95, 0.02, 0.02, 0.02, 0.02, 0.9]
    assert found["positions"][:2] == [-20.0, -15.0] and (found["height"], found["width"]) == (48, 64)
    assert list(found["maps"]) == ["subdural"] and list(found["maps"]["subdural"]) == ["5"]


def test_windows_are_those_of_the_project():
    page = render_study_page(example())
    found = re.findall(r'value="([\w ]+)" data-center="([\d.]+)" data-width="([\d.]+)"', page)
    shown = {name.replace(" ", "_"): (float(c), float(w)) for name, c, w in found}
    assert list(shown) == ["brain", "subdural", "stroke", "soft_tissue", "bone"]
    assert shown == {name: WINDOWS[name] for name in shown}


def test_the_page_stands_alone():
    page = render_study_page(example())
    assert not re.search(r"https?://|//\w+\.|@import|url\(", re.sub(r'class="slice">[^<]*', "", page))
    assert "default-src 'none'" in page


@pytest.mark.parametrize(
    ("axes", "left_right_top_bottom"),
    [
        (((1, 0, 0), (0, 1, 0)), "RLAP"),
        (((-1, 0, 0), (0, 1, 0)), "LRAP"),  # from above
        (((1, 0, 0), (0, -1, 0)), "RLPA"),
        (((0.99, 0.1, 0), (-0.1, 0.9, -0.42)), "RLAP"),  # tilted and turned
        (((0, 1, 0), (0, 0, -1)), "APHF"),
    ],
)
def test_marks_say_where_the_sides_point(axes, left_right_top_bottom):
    assert "".join(_marks(axes)[side] for side in ("left", "right", "top", "bottom")) == left_right_top_bottom


def test_numbers_in_short():
    assert _ranges(np.array([1, 2, 3, 7, 9, 10])) == "1-3, 7, 9-10"
    assert _ticks(32) == [1, 5, 10, 15, 20, 25, 32] and _ticks(1) == [1] and _ticks(2) == [1, 2]
    assert all(len(_ticks(count)) <= 10 and _ticks(count)[-1] == count for count in range(1, 700))


@pytest.mark.parametrize(
    ("other", "cause"),
    [
        ({"hu": volume(count=3)}, "12 slices with probabilities"),
        ({"slices": example().slices * np.nan}, "no probability"),
        ({"spread": example().spread.iloc[::-1]}, "different slices"),
        ({"maps": {("elsewhere", "any"): np.ones((2, 2))}}, "'elsewhere', which is no slice"),
    ],
)
def test_parts_that_do_not_belong_together_are_refused(other, cause):
    with pytest.raises(ValueError, match=cause):
        example(**other)
