"""A fitted model under ONNX Runtime, against what the classifier predicts."""

import copy
import json
import os
import re
import sys

import numpy as np
import pytest
import torch
from packaging.version import Version
from sklearn.exceptions import NotFittedError

from skl2rclip import L2RCLIPClassifier, input_pixels
from skl2rclip._deploy import onnx_file
from skl2rclip.errors import InvalidParameterError
from tests.support.pages import page_block

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
if Version(torch.__version__) < Version("2.10"):
    pytest.skip("the extra for ONNX needs torch 2.10", allow_module_level=True)


@pytest.fixture(scope="module")
def of_a_table(fitted_model):
    """A fitted model whose head alone is exported, which is done soon."""
    rng = np.random.default_rng(0)
    how = {"image_tower": "precomputed", "prompt_epochs": 2, "random_state": 0, "device": "cpu"}
    y = np.tile(np.arange(3), 8)
    table = (rng.normal(size=(24, 24)) + y[:, None]).astype(np.float32)
    return L2RCLIPClassifier(fitted_model("embedding").model_name, **how).fit(table, y), table


@pytest.fixture(scope="module")
def image_file(fitted_model, photos, tmp_path_factory):
    """A file of a model of images, and what its export returned; it takes seconds."""
    path = tmp_path_factory.mktemp("images") / "grades.onnx"
    return path, fitted_model("frozen").export_onnx(path, verify=photos[0][:5])


@pytest.fixture(scope="module")
def head_file(of_a_table, tmp_path_factory):
    path = tmp_path_factory.mktemp("head") / "head.onnx"
    return path, of_a_table[0].export_onnx(path, opset=18)


def session_of(path):
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def scale_weights(model, factor):
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            values = onnx.numpy_helper.to_array(tensor)
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.float32(factor) * values, tensor.name))


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_predicts_as_the_classifier_in_batches_of_any_size(fitted_model, photos, image_file):
    fitted, (path, returned) = fitted_model("frozen"), image_file
    assert fitted.mirror
    session = session_of(path)
    pixels = input_pixels(photos[0], session.get_modelmeta().custom_metadata_map)
    np.testing.assert_array_equal(pixels, input_pixels(photos[0], fitted))
    expected = fitted.predict_proba(photos[0])
    for n in (1, 7, 20):
        (found,) = session.run(["probabilities"], {"images": pixels[:n]})
        np.testing.assert_allclose(found, expected[:n], atol=1e-4)
    assert 0 <= returned <= 1e-4
    assert names_in(path.parent) == ["grades.onnx"]


def test_the_lines_of_the_page_run(fitted_model, photos, image_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(onnx_file, "_exported", lambda module, opset: onnx.load(image_file[0]))  # which takes seconds
    names = {"clf": fitted_model("frozen"), "paths": photos[0]}
    exec(page_block("putting-to-work.md", "export_onnx"), names)
    np.testing.assert_allclose(names["probabilities"], names["clf"].predict_proba(photos[0]), atol=1e-4)


def test_metadata_say_what_the_model_is_and_nothing_of_this_machine(fitted_model, image_file):
    fitted, (path, returned) = fitted_model("frozen"), image_file
    described = session_of(path).get_modelmeta().custom_metadata_map
    assert set(described) == {*fitted.to_torch().description, "precision", "largest_difference"}
    assert json.loads(described["largest_difference"]) == returned
    assert json.loads(described["classes"]) == fitted.classes_.tolist()
    assert described["fingerprint"] == fitted._state.record.fingerprint
    content = path.read_bytes()
    for place in (str(path.parent), "site-packages", "/skl2rclip/", fitted.model_name.removeprefix("local-dir:")):
        assert place.encode() not in content


def test_half_precision_halves_the_tower_and_is_measured(fitted_model, photos, image_file, tmp_path, monkeypatch):
    fitted, whole, path = fitted_model("frozen"), image_file[0], tmp_path / "half.onnx"
    monkeypatch.setattr(onnx_file, "_exported", lambda module, opset: onnx.load(whole))  # which takes seconds
    returned = fitted.export_onnx(path, precision="float16", verify=photos[0])
    session = session_of(path)
    (found,) = session.run(None, {"images": input_pixels(photos[0], fitted)})
    assert returned == pytest.approx(np.abs(found - fitted.predict_proba(photos[0])).max(), abs=1e-4)
    assert 0 < returned < 0.02
    assert session.get_modelmeta().custom_metadata_map["precision"] == "float16"
    kept = {each.data_type: 0 for each in onnx.load(path).graph.initializer}
    for each in onnx.load(path).graph.initializer:
        kept[each.data_type] += onnx.numpy_helper.to_array(each).size
    n_weights = sum(each.numel() for each in fitted.to_torch().tower.parameters() if each.ndim > 1)
    assert kept[onnx.TensorProto.FLOAT16] == pytest.approx(n_weights, rel=0.1)
    head = fitted.to_torch().head
    assert kept[onnx.TensorProto.FLOAT] > sum(each.numel() for each in head.state_dict().values() if each.ndim > 1)


def test_a_model_of_a_table_is_its_head(of_a_table, head_file, tmp_path):
    (fitted, table), (path, returned) = of_a_table, head_file
    (found,) = session_of(path).run(None, {"rows": table})
    np.testing.assert_allclose(found, fitted.predict_proba(table), atol=1e-4)
    assert returned <= 1e-4
    assert next(each.version for each in onnx.load(path).opset_import if not each.domain) == 18
    with pytest.raises(InvalidParameterError, match="this model reads a table"):
        fitted.export_onnx(tmp_path / "head.onnx", precision="float16")


def test_what_says_something_else_is_not_written(of_a_table, head_file, tmp_path, monkeypatch):
    fitted, table = of_a_table
    model = onnx.load(head_file[0])
    monkeypatch.setattr(onnx_file, "_exported", lambda module, opset: model)
    before = tmp_path / "head.onnx"
    fitted.export_onnx(before, verify=False)
    content = before.read_bytes()
    assert "null" in {each.value for each in onnx.load(before).metadata_props}
    scale_weights(model, 1.01)
    for verify in (True, table):
        with pytest.raises(RuntimeError, match=r"differs by .* was not written: use to_torch\(\), or image_features"):
            fitted.export_onnx(before, verify=verify)
    monkeypatch.setattr(onnx_file, "_difference", lambda *arguments: float("nan"))
    with pytest.raises(RuntimeError, match="differs by nan"):
        fitted.export_onnx(before)
    assert before.read_bytes() == content
    assert names_in(tmp_path) == ["head.onnx"]


@pytest.fixture
def without_room(head_file, monkeypatch):
    """Let a file hold no more than a kilobyte, and return the model that every export finds."""
    exported = onnx.load(head_file[0])
    monkeypatch.setattr(onnx_file, "_exported", lambda module, opset: copy.deepcopy(exported))
    monkeypatch.setattr(onnx_file, "_MAX_BYTES", 1000)
    return exported


def test_more_than_a_file_holds_is_in_two_that_are_verified_together(
    of_a_table, without_room, tmp_path, caplog, monkeypatch
):
    fitted, table = of_a_table
    monkeypatch.chdir(tmp_path)
    for _ in range(2):  # the second time over the first
        with caplog.at_level("INFO", logger="skl2rclip"):
            assert 0 <= fitted.export_onnx("head.onnx") <= 1e-4
        model, weights = names_in(tmp_path)
        assert model == "head.onnx"
        assert re.fullmatch(r"head\.onnx\.[0-9a-f]{8}\.data", weights)
        assert caplog.messages[-1] == f"The weights of head.onnx are in {weights} beside it."
    (found,) = session_of("head.onnx").run(None, {"rows": table})
    np.testing.assert_allclose(found, fitted.predict_proba(table), atol=1e-4)
    assert session_of("head.onnx").get_modelmeta().custom_metadata_map["weights_file"] == weights
    n_bytes = sum(each.nbytes for each in fitted.to_torch().state_dict().values())
    assert (tmp_path / weights).stat().st_size == pytest.approx(n_bytes, rel=0.1)
    for path in tmp_path.iterdir():
        assert str(tmp_path).encode() not in path.read_bytes()


def test_a_model_and_its_weights_appear_together_or_the_earlier_ones_stay(
    of_a_table, without_room, tmp_path, monkeypatch
):
    fitted, table = of_a_table
    path, others = tmp_path / "head.onnx", ["head.onnx.data", "head.onnx.0123abcd.data"]
    for name in others:
        (tmp_path / name).touch()
    fitted.export_onnx(path)
    content = {name: (tmp_path / name).read_bytes() for name in names_in(tmp_path)}
    assert len(content) == 4
    scale_weights(without_room, 1.01)
    with pytest.raises(RuntimeError, match="was not written"):
        fitted.export_onnx(path)
    replace = os.replace

    def failing(source, target):
        if target == path:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(KeyboardInterrupt):
        fitted.export_onnx(path, verify=False)
    assert {name: (tmp_path / name).read_bytes() for name in names_in(tmp_path)} == content
    monkeypatch.setattr(os, "replace", replace)
    fitted.export_onnx(path, verify=False)
    assert len(content.keys() & names_in(tmp_path)) == 3
    assert len(names_in(tmp_path)) == 4
    session_of(path).run(None, {"rows": table})
    monkeypatch.setattr(onnx_file, "_MAX_BYTES", 10**9)
    fitted.export_onnx(path, verify=False)
    assert names_in(tmp_path) == sorted(["head.onnx", *others])


def test_half_precision_may_be_in_two_files_too(fitted_model, photos, image_file, tmp_path, monkeypatch):
    fitted = fitted_model("frozen")
    monkeypatch.setattr(onnx_file, "_exported", lambda module, opset: onnx.load(image_file[0]))
    monkeypatch.setattr(onnx_file, "_MAX_BYTES", 1000)
    path = tmp_path / "half.onnx"
    returned = fitted.export_onnx(path, precision="float16", verify=photos[0])
    (found,) = session_of(path).run(None, {"images": input_pixels(photos[0], fitted)})
    assert returned == pytest.approx(np.abs(found - fitted.predict_proba(photos[0])).max(), abs=1e-4)
    assert len(names_in(tmp_path)) == 2


def test_what_cannot_be_exported_is_refused_by_name(of_a_table, fitted_model, tmp_path, monkeypatch):
    def failing(*arguments, **keywords):
        raise NotImplementedError("no such operator\nand a page more")

    monkeypatch.setattr("torch.onnx.export", failing)
    with pytest.raises(RuntimeError, match=r"local-dir:vit to ONNX \(NotImplementedError: no such operator\):"):
        fitted_model("embedding").export_onnx(tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"opset": 17}, InvalidParameterError, "opset must be an integer of at least 18, or None, got 17"),
        ({"opset": 999}, InvalidParameterError, "opset must be at most"),
        ({"opset": True}, InvalidParameterError, "opset"),
        ({"precision": "int8"}, InvalidParameterError, "precision must be one of 'float32', 'float16', got 'int8'"),
        ({"verify": None}, InvalidParameterError, "verify must be True, False, or images to compare on, got None"),
        ({"verify": np.zeros((2, 7))}, ValueError, r"rows must have the shape \(n, 24\), got \(2, 7\)"),
        ({"path": 3}, InvalidParameterError, "path must be a string or a path, got 3"),
        ({"path": "."}, IsADirectoryError, "name a file in it"),
        ({"path": os.devnull}, InvalidParameterError, "is a device or a pipe: name a file"),
        ({"path": "no-such-folder/model.onnx"}, FileNotFoundError, "no folder 'no-such-folder'; make it first"),
    ],
)
def test_wrong_arguments_are_refused_before_any_work(of_a_table, tmp_path, monkeypatch, arguments, error, message):
    monkeypatch.setattr("torch.onnx.export", None)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        of_a_table[0].export_onnx(**{"path": "model.onnx", **arguments})


def test_missing_packages_are_named_with_the_extra(of_a_table, monkeypatch):
    with pytest.raises(NotFittedError):
        L2RCLIPClassifier().export_onnx("model.onnx")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    found = onnx_file.importlib.util.find_spec
    monkeypatch.setattr(
        onnx_file.importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else found(name)
    )
    with pytest.raises(ImportError, match=r"needs onnxruntime, .* pip install 'skl2rclip\[onnx\]'"):
        of_a_table[0].export_onnx("model.onnx")
