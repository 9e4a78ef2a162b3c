import pytest

from skl2rclip import L2RCLIPClassifier


@pytest.fixture
def asked(monkeypatch):
    """What `export_onnx` is asked for; it writes nothing, and a test of its own shows that it does."""
    calls = {}

    def export_onnx(self, path, **options):
        calls.update(path=path, **options)
        return 3e-7

    monkeypatch.setattr(L2RCLIPClassifier, "export_onnx", export_onnx)
    return calls


def test_the_difference_is_the_row(run, saved, asked, tmp_path):
    file = str(tmp_path / "m.onnx")
    said = run("export", saved, "--onnx", file, "--opset", 18, "--precision", "float16")
    assert (said.status, said.err) == (0, "")
    assert said.rows == [{"file": file, "largest_difference": "3e-07"}]
    assert asked == {"path": file, "opset": 18, "precision": "float16"}


def test_a_file_that_exists_is_kept(run, saved, asked, tmp_path):
    file = tmp_path / "m.onnx"
    file.touch()
    said = run("export", saved, "--onnx", file)
    assert (said.status, said.err.count("\n"), asked) == (2, 1, {})
    assert run("export", saved, "--onnx", file, "--overwrite").status == 0


def test_the_standard_output_is_no_file(run, saved):
    assert run("export", saved, "--onnx", "-").status == 2
