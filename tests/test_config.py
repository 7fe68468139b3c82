"""Configurations are strict: what is not declared does not exist, and the message says what was meant."""

import pytest

from src.config import load_config, parse_config, parse_override
from src.errors import UserError
from src.settings import load_settings
from src.training.slices.slice_config import SliceConfig
from src.training.studies.stacker_config import StackerConfig
from src.training.videos.video_config import VideoConfig


def write(tmp_path, text):
    path = tmp_path / "config.json"
    path.write_text(text)
    return path


def test_a_file_states_only_what_differs(tmp_path):
    config = load_config(SliceConfig, write(tmp_path, '{"backbone": "resnet18", "lr": 1e-4}'))
    assert (config.backbone, config.lr, config.image_size) == ("resnet18", 1e-4, 512)


def test_set_overrides_are_json_and_pass_the_same_loader(tmp_path):
    path = write(tmp_path, '{"backbone": "resnet18"}')
    config = load_config(
        SliceConfig, path, ["epochs=2", 'backbone="resnet34"', 'augmentation={"hflip": 0.0}']
    )
    assert (config.epochs, config.backbone, config.augmentation.hflip) == (2, "resnet34", 0.0)
    with pytest.raises(UserError, match="unknown key 'epoch'; did you mean 'epochs'"):
        load_config(SliceConfig, path, ["epoch=2"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            '{"backbone": "resnet18", "image_sise": 256}',
            "unknown key 'image_sise'; did you mean 'image_size'",
        ),
        (
            '{"backbone": "resnet18", "augmentation": {"flip": 1.0}}',
            "unknown key 'augmentation.flip'; did you mean",
        ),
        (
            '{"backbone": "resnet18", "augmentation.hflip": 1.0}',
            "'augmentation' is given as a whole: --set 'augmentation={\"hflip\": 1.0}'",
        ),
        ('{"backbone": "resnet18", "lr": "1e-4"}', 'lr is "1e-4"; expected: number above 0$'),
        ('{"backbone": "resnet18", "epochs": 3.0}', "epochs is 3.0; expected: whole number from 1 up$"),
        ('{"backbone": "resnet18", "channels_last": 1}', "channels_last is 1; expected: true or false$"),
        ('{"backbone": "resnet18", "epochs": 0}', "epochs is 0; expected: whole number from 1 up$"),
        ('{"backbone": "resnet18", "mean": [0.1, 0.2]}', "mean has 2 values for 3 windows"),
        ('{"backbone": "resnet18", "lr": 1e-4, "lr": 1e-3}', "the key 'lr' appears twice"),
        ('{"lr": 1e-4}', "the key 'backbone' is missing"),
        ('["resnet18"]', "holds a list; a JSON object is expected"),
        ('{"backbone": ', "not valid JSON"),
    ],
)
def test_mistakes_name_the_file_the_key_and_the_remedy(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(UserError, match=message) as error:
        load_config(SliceConfig, path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("backbone", "message"),
    [
        (
            {"tubelet": [2, 16, 16], "pretrained": False, "hidden_dropot": 0.1},
            "unknown key 'backbone.hidden_dropot'; did you mean 'hidden_dropout'?",
        ),
        (
            {"tubelet": [2, 16, 16], "layer": 2},
            "the key 'backbone.pretrained' is missing; unknown key 'backbone.layer'; did you mean 'layers'?",
        ),
        (
            {"trunks": [], "embed_dims": 96},
            "unknown key 'backbone.embed_dims'; did you mean 'embed_dim'?",
        ),
        (
            {"trunks": [{"backbone": "resnet18", "pretraind": False}]},
            "unknown key 'backbone.trunks.0.pretraind'; did you mean 'pretrained'?",
        ),
        (
            {"trunks": [], "embed_dim": "a"},
            'backbone.embed_dim is "a"; expected: whole number from 1 up or "concat"',
        ),
        ({"trunks": [], "embed_dim": "concat"}, "backbone: "),  # what its own check says
        (3, "backbone is 3; expected: text or object"),
    ],
)
def test_of_several_objects_that_may_stand_at_a_key_the_nearest_is_meant(backbone, message):
    with pytest.raises(UserError) as error:
        parse_config(VideoConfig, {"kind": "video", "backbone": backbone}, "a.json")
    assert str(error.value).startswith(f"a.json: {message}")
    assert str(error.value).endswith(message) or message == "backbone: "


def test_a_missing_file_lists_its_neighbours(tmp_path):
    write(tmp_path, "{}")
    with pytest.raises(UserError, match=r"other.json: no such file; present there: .*config.json"):
        load_config(SliceConfig, tmp_path / "other.json")


def test_an_override_without_quotes_gets_a_hint():
    with pytest.raises(UserError, match=r"write text as --set 'backbone=\"resnet18\"'"):
        parse_override("backbone=resnet18")
    with pytest.raises(UserError, match="expected key=value"):
        parse_override("epochs")


def test_a_stacker_needs_something_to_read():
    text = '{"stacker": "lstm", "members": ["a/stage1/b"], "inputs": ["position"]}'
    with pytest.raises(Exception, match="embeddings or logits among its inputs"):
        StackerConfig.model_validate_json(text)


def test_settings_are_resolved_against_their_own_folder(tmp_path):
    keys = ("RAW_DATA_DIR", "CLEAN_DATA_DIR", "MODEL_DIR", "CHECKPOINT_DIR", "LOGS_DIR", "SUBMISSION_DIR")
    path = write(tmp_path, "{" + ", ".join(f'"{k}": "x/{k.lower()}"' for k in keys) + "}")
    settings = load_settings(path)
    assert settings.raw == tmp_path / "x/raw_data_dir"
    assert settings.submissions == tmp_path / "x/submission_dir"
    write(tmp_path, '{"RAW_DATA_DIR": "x"}')
    with pytest.raises(UserError, match="the key 'MODEL_DIR' is missing"):
        load_settings(path)
