"""Cross-validation folds: whole patients, linked patients together, the six labels balanced, epidural above
all.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ..errors import UserError
from ..labels import LABELS


def assign_folds(
    slices: pd.DataFrame, n_folds: int, seed: int, before: pd.DataFrame | None = None
) -> pd.DataFrame:
    """slices (a row an image: patient_id, the six labels, and pixel_hash, blank, split where known)
    -> patient_id, fold in 0..n_folds-1, a row a training patient, sorted by patient_id.

    Patients who share a slice or a study form one group (see `link_patients`). Groups are placed one by one,
    those with the rarest label first and the largest of them foremost, each into the fold where the labels,
    the images and the patients then deviate least from an even share: a greedy form of iterative
    stratification (Sechidis et al., 2011) for groups. `seed` breaks ties. Patients of `before` (patient_id,
    fold) keep their fold, and whoever is linked to one gets it. Raises UserError when there are fewer groups
    than folds, or when a link joins patients of different folds.
    """
    groups = link_patients(slices)
    train = _train_rows(slices)
    if n_folds < 2:
        raise UserError(f"--folds {n_folds}: two folds at least are needed")
    group = groups.loc[train["patient_id"]].to_numpy()
    names, codes = np.unique(group, return_inverse=True)
    if len(names) < n_folds:
        raise UserError(
            f"--folds {n_folds}: there are only {len(names)} patient groups; ask for that many or fewer"
        )
    counts = np.zeros((len(names), len(LABELS) + 2))
    for column, label in enumerate(LABELS):
        positive = (
            train[label].fillna(0).to_numpy(dtype=np.float64) if label in train else np.zeros(len(train))
        )
        counts[:, column] = np.bincount(codes, positive, len(names))
    counts[:, -2] = np.bincount(codes, minlength=len(names))
    patients = train.drop_duplicates("patient_id")["patient_id"]
    group_of_patient = np.searchsorted(names, groups.loc[patients].to_numpy())
    counts[:, -1] = np.bincount(group_of_patient, minlength=len(names))
    given = np.full(len(names), -1)
    if before is not None:
        known = groups.reindex(before["patient_id"]).to_numpy()
        here = np.isin(known, names)
        _check_kept(before[here], known[here], n_folds)
        given[np.searchsorted(names, known[here])] = before.loc[here, "fold"]
    of_patient = _place(counts, n_folds, np.random.default_rng(seed), given)[group_of_patient]
    folds = pd.DataFrame({"patient_id": patients.to_numpy(), "fold": of_patient})
    return folds.sort_values("patient_id", ignore_index=True)


def _check_kept(before: pd.DataFrame, groups: np.ndarray, n_folds: int) -> None:
    remedy = "delete folds.csv to divide all patients anew, and then every model is to be trained anew"
    if not before["fold"].between(0, n_folds - 1).all():
        raise UserError(f"folds.csv: a fold is not one of 0 to {n_folds - 1}; {remedy}")
    several = before.groupby(groups)["fold"].transform("nunique") > 1
    if several.any():
        linked = before[groups == groups[several.to_numpy().argmax()]].drop_duplicates("fold")
        named = " and ".join(f"{row.patient_id} (fold {row.fold})" for row in linked.itertuples())
        raise UserError(f"folds.csv: {named} share an identical slice or a study in the new data; {remedy}")


def link_patients(slices: pd.DataFrame) -> pd.Series:
    """Group number of every patient, index patient_id: connected components of "shares a slice or a study".

    A slice is shared where pixel_hash agrees, a study where study_id does, so far as the table has them. All
    parts and quarantined images count, for a copy leaks whatever becomes of it. Blank images (one value
    everywhere) link nobody: they are all alike.
    """
    known = slices[slices["patient_id"].notna()]
    patient, patients = pd.factorize(known["patient_id"], sort=True)
    things = [known[name] for name in ("pixel_hash", "study_id") if name in known]
    if "pixel_hash" in known and "blank" in known:
        things[0] = things[0].mask(known["blank"].fillna(False).astype(bool))
    none, nodes = np.empty(0, np.int64), len(patients)
    who, what = [none], [none]
    for thing in things:
        several = (thing.duplicated(keep=False) & thing.notna()).to_numpy()
        numbers, names = pd.factorize(thing[several])
        who.append(patient[several])
        what.append(nodes + numbers)
        nodes += len(names)
    ends = np.concatenate(who), np.concatenate(what)
    graph = coo_array((np.ones(len(ends[0])), ends), shape=(nodes, nodes))
    components = connected_components(graph, directed=False)[1][: len(patients)]
    return pd.Series(components, index=pd.Index(patients, name="patient_id"))


def check_folds(slices: pd.DataFrame, folds: pd.DataFrame) -> None:
    """Raise UserError unless every training patient has one fold and linked patients have the same."""
    repeated = folds.loc[folds["patient_id"].duplicated(), "patient_id"]
    if len(repeated):
        raise UserError(f"folds: patient {repeated.iloc[0]} has two rows; keep one")
    fold = folds.set_index("patient_id")["fold"]
    patients = pd.Index(_train_rows(slices)["patient_id"].unique())
    missing = patients.difference(fold.index)
    if len(missing):
        raise UserError(
            f"folds: {len(missing)} training patients have no fold, such as {missing[0]}; add them"
        )
    groups = link_patients(slices).reindex(patients)
    per_group = fold.reindex(patients).groupby(groups.to_numpy()).nunique()
    leaks = per_group.index[per_group > 1]
    if len(leaks):
        linked = groups.index[groups == leaks[0]]
        raise UserError(
            f"folds: {len(leaks)} groups of patients with identical slices or a common study are spread over "
            f"folds, such as {', '.join(linked[:3])}; put each group into one fold"
        )


def read_external_folds(path: Path | str, slices: pd.DataFrame) -> pd.DataFrame:
    """Folds made elsewhere: a CSV with patient_id and fold (0, 1, ...), checked like our own. Raises
    UserError.
    """
    folds = read_fold_file(path)
    present = sorted(folds["fold"].unique().tolist())
    if present != list(range(len(present))):
        raise UserError(f"{path}: its folds are {present}; number them 0, 1, ... without a gap")
    try:
        check_folds(slices, folds)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    wanted = folds["patient_id"].isin(_train_rows(slices)["patient_id"])
    return folds[wanted].sort_values("patient_id", ignore_index=True)


def read_fold_file(path: Path | str) -> pd.DataFrame:
    """patient_id, fold (int64) of a CSV. Raises UserError where a fold is not a whole number from 0 on."""
    try:
        # a patient may be called NA: nothing but numbers is interpreted
        folds = pd.read_csv(path, dtype="str", encoding="utf-8-sig", keep_default_na=False)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a readable CSV ({error})") from None
    if not {"patient_id", "fold"} <= set(folds.columns):
        raise UserError(f"{path}: its columns are {', '.join(folds.columns)}; expected patient_id,fold")
    numbers = pd.to_numeric(folds["fold"], errors="coerce")
    if numbers.isna().any() or (numbers < 0).any() or (numbers % 1 != 0).any():
        raise UserError(f"{path}: a fold is not a whole number from 0 on; correct the column")
    return pd.DataFrame({"patient_id": folds["patient_id"], "fold": numbers.astype("int64")})


def _train_rows(slices: pd.DataFrame) -> pd.DataFrame:
    known = slices["patient_id"].notna()
    return slices[known & (slices["split"] == "train")] if "split" in slices else slices[known]


def _place(counts: np.ndarray, n_folds: int, rng: np.random.Generator, given: np.ndarray) -> np.ndarray:
    """(groups, quantities), (groups,) fold or -1 -> (groups,) fold."""
    total = counts.sum(axis=0)
    scaled = counts / np.where(total > 0, total / n_folds, 1.0)  # 1 is one fold's even share
    labels = counts[:, : len(LABELS)]
    rarest_first = np.argsort(np.where(total[: len(LABELS)] > 0, total[: len(LABELS)], np.inf), kind="stable")
    has = labels[:, rarest_first] > 0
    rank = np.where(has.any(axis=1), has.argmax(axis=1), len(LABELS))
    size = np.where(
        rank < len(LABELS), labels[np.arange(len(labels)), rarest_first[rank % len(LABELS)]], counts[:, -2]
    )
    sequence = np.lexsort((rng.permutation(len(counts)), -size, rank))
    filled, folds = np.zeros((n_folds, counts.shape[1])), given.copy()
    np.add.at(filled, given[given >= 0], scaled[given >= 0])
    for group in sequence[given[sequence] < 0]:
        # growth of the squared fill, summed over quantities: smallest where the group's own labels are
        # scarcest
        cost = (2 * filled + scaled[group]) @ scaled[group]
        folds[group] = np.argmin(cost)
        filled[folds[group]] += scaled[group]
    return folds
