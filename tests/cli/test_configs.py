import pytest

from mrirecon.cli.configs import find_config, with_config_paths
from mrirecon.errors import UsageError


def test_options_override_a_config_wherever_they_stand():
    path = find_config("cirim")
    assert path.name == "cirim.yaml"
    assert with_config_paths(["--output", "here", "--config", "cirim"]) == [f"--config={path}", "--output", "here"]
    assert with_config_paths(["--config=cirim", "--a=b"]) == [f"--config={path}", "--a=b"]


def test_a_file_of_ones_own_is_taken_and_unknown_names_are_refused(tmp_path):
    (tmp_path / "mine.yaml").write_text("output: here")
    assert find_config(str(tmp_path / "mine.yaml")) == tmp_path / "mine.yaml"
    for wrong in (["--config", "nosuch"], ["--config"]):
        with pytest.raises(UsageError, match="cirim_small"):
            with_config_paths(wrong)
