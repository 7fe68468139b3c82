"""The labelled patients of prepared data divided at random: a test part, a validation part, the rest."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..errors import UserError
from ..targets import Targets
from .folds import link_patients
from .prepared import TEST, Prepared
from .target_labels import target_labels

VALIDATION, REST = 0, 3  # the fold of the validation part; folds 1 to 3 are the rest, for out-of-fold outputs


@dataclass(frozen=True)
class Division:
    """How a division is drawn: `label`, a column of the targets, tells positive patients from others.

    test_share: of all patients; validation_share: of those not tested on; stratified: the shares hold among
    positive patients and among others, else among all together.
    """

    targets: Targets
    label: str
    test_share: float = 0.3
    validation_share: float = 0.15
    stratified: bool = True

    def draw(self, prepared: Prepared, seed: int) -> pd.DataFrame:
        """patient_id, fold (TEST, VALIDATION or 1 to REST) of every patient with a labelled study.

        Linked patients come to the same part and count as one.
        """
        groups = link_patients(prepared.slices)
        positive = self._positive_groups(prepared, groups)
        rng, folds = np.random.default_rng(seed), pd.Series(0, positive.index)
        for stratum in self._strata(positive):
            folds[rng.permutation(stratum)] = self._folds(len(stratum))
        of_patient = groups.map(folds).dropna().astype("int64")
        trained = prepared.slices.loc[prepared.slices["split"] == "train", "patient_id"]
        of_patient = of_patient[of_patient.index.isin(trained)]
        return of_patient.rename_axis("patient_id").rename("fold").reset_index()

    def _positive_groups(self, prepared: Prepared, groups: pd.Series) -> pd.Series:
        """Group -> whether one of its studies is positive."""
        labels = target_labels(prepared, self.targets, "study")[self.label]
        patients = prepared.slices.drop_duplicates("study_id").set_index("study_id")["patient_id"]
        return (labels == 1).groupby(labels.index.map(patients).map(groups)).any()

    def _strata(self, positive: pd.Series) -> Iterator[np.ndarray]:
        """Groups that are divided together."""
        strata = {"labelled patients": np.ones(len(positive), bool)}
        if self.stratified:
            label = f"`{self.label}`"
            strata = {f"patients positive for {label}": positive, f"patients negative for {label}": ~positive}
        for words, chosen in strata.items():
            stratum = positive.index[chosen].to_numpy()
            if min(self._sizes(len(stratum))) < 1:
                raise UserError(
                    f"{len(stratum)} {words} (linked ones count as one): too few for a test, a "
                    f"validation and a training part; prepare more data, or change --label or the shares"
                )
            yield stratum

    def _folds(self, count: int) -> np.ndarray:
        """(count,) folds in the shares asked for, rounded up as scikit-learn does."""
        tested, validated, rest = self._sizes(count)
        return np.concatenate(
            [np.full(tested, TEST), np.full(validated, VALIDATION), np.arange(rest) % REST + 1]
        )

    def _sizes(self, count: int) -> tuple[int, int, int]:
        """Test, validation, rest."""
        tested = math.ceil(round(self.test_share * count, 9))
        validated = math.ceil(round(self.validation_share * (count - tested), 9))
        return tested, validated, count - tested - validated
