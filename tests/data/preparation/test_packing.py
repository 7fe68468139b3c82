"""How studies are divided into packs."""

from src.data.preparation.options import Options
from src.data.preparation.packing import ImageFile, StudyFiles, plan_packs

OPTIONS = Options(size=256)


def study(name, images, folder):
    files = [ImageFile(f"{name}_{k}", str(folder / "x.dcm")) for k in range(images)]
    return StudyFiles(name, files, ["made"] * images, False)


def sizes(studies, folder):
    return [len(group) for _, group in plan_packs(studies, folder, OPTIONS).todo]


def test_eight_studies_or_a_hundred_and_twenty_eight_lone_images_make_a_pack(tmp_path):
    assert sizes([study(f"s{k}", 2, tmp_path) for k in range(20)], tmp_path) == [8, 8, 4]
    assert sizes([study(f"s{k}", 1, tmp_path) for k in range(300)], tmp_path) == [128, 128, 44]


def test_packs_that_are_written_already_do_not_move_the_others(tmp_path):
    studies = [study(f"s{k:03d}", 1 if k % 3 else 5, tmp_path) for k in range(100)]
    packs = plan_packs(studies, tmp_path, OPTIONS).todo
    assert len(packs) == 5
    done = {s.study_id for s in packs[1][1]}
    rest = plan_packs([s for s in studies if s.study_id not in done], tmp_path, OPTIONS).todo
    assert [path for path, _ in rest] == [packs[0][0], *(path for path, _ in packs[2:])]
