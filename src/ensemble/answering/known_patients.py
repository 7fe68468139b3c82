"""Which patients of some data the folds of an experiment have learned from, and which fold held them out."""

from collections.abc import Sequence

import pandas as pd

from ...data.folds import link_patients
from ...data.prepared import Prepared
from ...training.runs import Run

ALL_FOLDS, NO_FOLD = -1, -2  # beside the number of the one fold that may answer


def held_out_folds(runs: Sequence[Run], prepared: Prepared) -> pd.Series:
    """study_id -> the fold that alone may answer for it: the one that held its patient out; ALL_FOLDS where
    the patient is a stranger to all, NO_FOLD where no complete fold of every member held the patient out.

    Patients are known by the folds of the data where these are what was trained on, else by the images that
    the folds held out. Linked patients count as one.
    """
    patients = prepared.slices.drop_duplicates("study_id").set_index("study_id")["patient_id"]
    folds = training_folds(runs, prepared)
    if folds.empty:
        return pd.Series(ALL_FOLDS, patients.index)
    groups = link_patients(prepared.slices)
    of_group = folds.groupby(groups.reindex(folds.index).to_numpy()).agg(["min", "max"])
    members = {run.name for run in runs}
    complete = set.intersection(*({run.fold for run in runs if run.name == name} for name in members))
    alone = (of_group["min"] == of_group["max"]) & of_group["min"].isin(complete)
    kept_apart = all(run.leak is None for run in runs)  # else no fold held a whole patient out
    of_group = of_group["min"].where(alone & kept_apart, NO_FOLD)
    return patients.map(groups).map(of_group).fillna(ALL_FOLDS).astype(int)


def training_folds(runs: Sequence[Run], prepared: Prepared) -> pd.Series:
    """patient_id -> fold, of the patients of some data that the folds were trained on or held out.

    Data that grew since keep every patient's fold, so there a fold that is not complete is known too.
    """
    table = prepared.folds.set_index("patient_id")["fold"]
    if prepared.fingerprint == runs[0].made_from["data"]:
        return table
    seen = recognised_images(runs, prepared)
    patients = prepared.slices.set_index("image_id")["patient_id"]
    known = seen.groupby(patients.reindex(seen.index).to_numpy()).min()
    everything = len(seen) == sum(len(run.predictions("oof")) for run in one_a_fold(runs))
    grew = everything and table.reindex(known.index).eq(known).all()
    return table if grew else known


def one_a_fold(runs: Sequence[Run]) -> list[Run]:
    return list({run.fold: run for run in runs}.values())


def recognised_images(runs: Sequence[Run], prepared: Prepared) -> pd.Series:
    """image_id -> the complete fold that held it out; by its name, or the last part of a path."""
    held_out = {run.fold: run.predictions("oof").index for run in one_a_fold(runs)}
    ids = pd.Series(prepared.slices["image_id"].to_numpy(), prepared.slices["image_id"])
    names = ids.str.split("/").str[-1]
    found = [pd.Series(fold, ids[ids.isin(known) | names.isin(known)]) for fold, known in held_out.items()]
    return pd.concat(found)
