"""`stacker`: the outputs of stage-1 runs for the slices of a study -> the targets of every slice."""

from ..kinds import Kind
from .stacker_config import StackerConfig
from .study_fold import member_runs, predict_test_studies, train_stacker_fold

KIND = Kind(StackerConfig, train_stacker_fold, predict_test_studies, inputs=member_runs)
