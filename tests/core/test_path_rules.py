from studio.core.config import PublishConfig
from studio.core.finish_config import FinishConfig
from studio.core.path_rules import paths_in_finishing, paths_in_publishing, paths_in_training
from studio.core.train_config import TrainConfig


def wheres(problems):
    return [problem.where for problem in problems]


def test_a_hub_name_that_is_a_folder_here_counts_as_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = TrainConfig(base="owner/model")
    assert paths_in_training(config) == []
    (tmp_path / "owner" / "model").mkdir(parents=True)
    assert wheres(paths_in_training(config)) == ["base"]


def test_a_folder_of_pictures_and_files_of_steps_are_paths():
    assert paths_in_publishing(PublishConfig(repo="ada/x")) == []
    assert wheres(paths_in_publishing(PublishConfig(repo="ada/x", pictures="out"))) == ["pictures"]
    steps = [{"do": "background", "fill": "picture", "picture": "../a.png"}, {"do": "upscale", "model": "nets/a.pth"}]
    assert wheres(paths_in_finishing(FinishConfig.parse({"steps": steps}))) == ["background.picture", "upscale.model"]
    steps = [{"do": "background", "fill": "picture", "picture": "a.png"}, {"do": "upscale", "model": "hf:a/b/c.pth"}]
    assert paths_in_finishing(FinishConfig.parse({"steps": steps})) == []
