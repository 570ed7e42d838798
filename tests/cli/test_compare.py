from pathlib import Path

import pytest

from mrirecon.cli.main import main

HEAD = "volume,method,mask,acceleration_asked,ssim,psnr\n"


@pytest.fixture
def runs(tmp_path: Path) -> tuple[str, str]:
    """The results of two runs of mrirecon evaluate on seven volumes; the second is better."""
    for name, gain in (("a", 0), ("b", 0.02)):
        lines = [f"v{n}.h5,cs,equispaced,4.0,{0.8 + 0.01 * n + gain + 0.0001 * n * gain:.6f},30.0" for n in range(7)]
        (tmp_path / f"{name}.csv").write_text(HEAD + "\n".join(lines) + "\n")
    return str(tmp_path / "a.csv"), str(tmp_path / "b.csv")


def test_two_runs_are_compared(runs: tuple[str, str], tmp_path: Path, capsys) -> None:
    assert main(["compare", *runs, "-o", str(tmp_path / "page.md")]) == 0
    printed = capsys.readouterr().out
    assert "B is better (p = 0.016)" in printed
    assert "n = 7" in printed
    assert "B is better" in (tmp_path / "page.md").read_text()


def test_what_is_no_run_is_an_input_error(runs: tuple[str, str], tmp_path: Path, capsys) -> None:
    assert main(["compare", runs[0], str(tmp_path / "none")]) == 5
    assert "none" in capsys.readouterr().err
