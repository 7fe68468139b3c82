"""What the report says of the training runs."""

from src.files import write_json
from src.report.run.run_section import provenance
from src.settings import load_settings
from src.training.runs import Run
from tests.training.prepared import write_settings


def test_weights_are_named_with_their_licence_and_files_by_their_name(tmp_path):
    settings = load_settings(write_settings(tmp_path))
    hub = {"source": "https://huggingface.co/timm/a.b", "name": "a.b", "licence": "cc-by-nc-4.0"}
    trunks = [{"trunks": [hub, {"source": "random"}]}, {"trunks": []}]  # of Scopeformers
    started = [hub, {"source": "mine.safetensors"}, {"source": "random"}, None, *trunks]
    runs = [Run(f"tiny/stage1/{number}", 0, settings) for number in range(len(started))]
    for run, weights in zip(runs, started, strict=True):
        write_json(run.folder / "metrics.json", {"git": "0123456789abcdef", "pretrained": weights})
    assert provenance(runs) == {
        "code": ["0123456789ab"],
        "started from": ["a.b (cc-by-nc-4.0)", "a.b (cc-by-nc-4.0) + random", "mine.safetensors", "random"],
    }
