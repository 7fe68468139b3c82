"""CQ500's layout for tests: series of small DICOM files, and the opinions of its three readers."""

import pandas as pd

from src.data.readers.cq500 import FINDINGS, READERS
from tests.data.dicom_files import dataset, stored_values, write


def write_series(root, study: int, name: str, slices: int = 16, step: float = 5.0, **tags):
    folder = root / f"CQ500CT{study} CQ500CT{study}" / "Unknown Study" / name
    for place in range(slices):
        uid = f"1.2.{study}.{len(name)}.{place}"
        data = dataset(
            uid, stored_values(100 * study + place),
            patient=f"CQ500CT{study}", study=f"1.2.{study}", z=step * place,
            SeriesInstanceUID=f"1.2.{study}.{abs(hash(name)) % 1000}", **tags,
        )  # fmt: skip
        write(folder / f"CT{place:06d}.dcm", data)


def write_reads(root, opinions: dict[int, dict[str, tuple[int, int, int]]]) -> None:
    rows = []
    for study, findings in opinions.items():
        row: dict[str, object] = {"name": f"CQ500-CT-{study}", "Category": "B1" if study % 2 else "B2"}
        for number, reader in enumerate(READERS):
            row |= {f"{reader}:{finding}": findings.get(finding, (0, 0, 0))[number] for finding in FINDINGS}
        rows.append(row)
    pd.DataFrame(rows).to_csv(root / "reads.csv", index=False)
