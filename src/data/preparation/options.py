"""What a person can choose about the preparation, with the defaults: they stand nowhere else."""

from dataclasses import asdict, dataclass

from ...errors import UserError

SIZES = (512, 384, 256)
DATASETS = ("rsna", "cq500", "physionet", "folder", "dicom", "nifti", "table")


@dataclass(frozen=True)
class Options:
    """`volumes` are the choices that change stored pixels; the others only change tables."""

    dataset: str = "rsna"
    size: int = 512
    crop: bool = False  # to the head, one square a study
    remove_holder: bool = False  # air outside the head's mask
    correct_tilt: bool = False  # move every slice so that the stack is not sheared
    folds: int = 5
    seed: int = 0
    folds_file: str | None = None
    limit: int | None = None  # studies
    folder_config: str | None = None  # of the data set `folder`
    # of the data set `table`, or the reads of `cq500`; a relative path is below RAW_DATA_DIR
    table: str | None = None

    def __post_init__(self) -> None:
        if self.folds < 2:
            raise UserError(f"--folds {self.folds}: two folds at least are needed")
        if self.dataset == "table" and self.table is None:
            raise UserError("--dataset table: which table? Give --table FILE.csv or FILE.parquet")
        if self.dataset not in ("table", "cq500") and self.table is not None:
            raise UserError(f"--table {self.table}: is read by --dataset table, not {self.dataset}")

    @property
    def recorded(self) -> dict[str, object]:
        """As the manifest holds them."""
        return asdict(self)

    @property
    def volumes(self) -> dict[str, object]:
        return {name: value for name, value in asdict(self).items() if name in VOLUME_OPTIONS}


def fold_choices(recorded: dict[str, object]) -> dict[str, object]:
    """The settings that decide which patients there are and how they are divided; a longer table under
    another name is data that grew.
    """
    return {name: value for name, value in recorded.items() if name == "dataset" or name not in NOT_OF_FOLDS}


VOLUME_OPTIONS = ("dataset", "size", "crop", "remove_holder", "correct_tilt")
NOT_OF_FOLDS = (*VOLUME_OPTIONS, "table")


def changes(before: dict[str, object], now: dict[str, object]) -> str:
    """`size 512 -> 256, crop false -> true`; empty when nothing differs."""
    names = sorted(set(before) | set(now))
    return ", ".join(f"{n} {before.get(n)} -> {now.get(n)}" for n in names if before.get(n) != now.get(n))
