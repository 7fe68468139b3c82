"""An experiment of one network whose maps have more than a pixel."""

from src.config import parse_config
from src.data.prepared import Prepared
from src.ensemble.answering.answers import TrainedExperiment
from src.ensemble.answering.predictor import Predictor
from src.files import read_json, write_json
from src.settings import load_settings
from src.training.kinds import load_kind
from src.training.runs import Run
from tests.ensemble.conftest import CPU, LOG
from tests.ensemble.tiny_experiment import PIXELS
from tests.training.prepared import write_clean, write_settings


def sharp_predictor(tmp_path, synthetic=False, **options):
    settings = load_settings(write_settings(tmp_path))
    write_clean(settings.clean)
    manifest = settings.clean / "manifest.json"
    write_json(manifest, read_json(manifest) | {"synthetic": synthetic})
    kind, run = load_kind("slice"), Run("sharp/stage1/a", 0, settings)
    config = parse_config(kind.config, PIXELS | {"image_size": 64} | options, run.name)
    kind.train(run, Prepared(settings.clean), config, CPU, LOG, False)
    return Predictor(TrainedExperiment(settings, "sharp", "cpu", keep=True, quiet=True))
