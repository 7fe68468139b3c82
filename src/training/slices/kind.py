"""`slice`: a slice and its neighbours -> the targets of that slice."""

from ..kinds import Kind
from .slice_config import SliceConfig
from .slice_fold import predict_test_slices, train_slice_fold

KIND = Kind(SliceConfig, train_slice_fold, predict_test_slices)
