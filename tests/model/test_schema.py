"""What a description may hold, and what is said of one that holds something else."""

import json

import fault_saves
import pytest

from skl2rclip import L2RCLIPClassifier

ERRORS = ("weight", "squared_error", "squared_value_error", "position", "squared_position")


@pytest.mark.parametrize(
    "path",
    [
        ("params",),
        ("state",),
        ("state", "record"),
        ("state", "names"),
        ("state", "tokens", "end"),
        ("state", "structure", "prompt"),
        ("includes_backbone",),
        ("arrays", "sha256"),
    ],
)
def test_a_part_that_is_missing_is_named(fitted_classifier, tmp_path, path):
    fitted_classifier(prompt_epochs=1).save(tmp_path / "model")
    file = tmp_path / "model" / "model.json"
    description = json.loads(file.read_text())
    inner = description
    for name in path[:-1]:
        inner = inner[name]
    del inner[path[-1]]
    file.write_text(json.dumps(description))
    with pytest.raises(ValueError, match=f"the part '{path[-1]}' is missing"):
        L2RCLIPClassifier.load(tmp_path / "model")


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("state", "logit_scale"), -1, "state.logit_scale: -1 is less than the minimum"),
        (("state", "logit_scale"), True, "state.logit_scale: True is not of type 'number'"),
        (("state", "record", "embedding_width"), 127, r"prototypes is not of the shape|embed_dim gives"),
        (
            ("state", "record", "preprocessing", "size"),
            [10**9, 10**9],
            r"state.record.preprocessing.size.[01]: 1000000000 is greater",
        ),
        (("state", "record", "fingerprint"), "../..", "state.record.fingerprint"),
        (("state", "ranks", "dtype"), "|O", r"state.ranks.dtype: '\|O' does not match"),
        (("state", "ranks", "dtype"), "<U999999", "state.ranks.dtype"),
        (("state", "ranks", "labels"), [0, 1, 2, 3, 3], "repeat a label"),
        (("state", "ranks", "labels"), [0, 2, 1, 3, 4], "ascend or descend"),
        (("state", "values"), [0, 1, 2, 3, 5], "state.values: not the values of state.ranks"),
        (("state", "names"), ["a"] * 4, "state.names gives 4 where the rest of the model has 5"),
        (("state", "tokens", "n_context"), 4, "state.structure.n_context_tokens gives 3 where the rest .* has 4"),
        (("state", "structure", "n_context_tokens"), 8, "state.structure.n_context_tokens gives 8"),
        (("state", "structure", "n_context_tokens"), "all", "state.structure.n_context_tokens: 'all'"),
        (("state", "structure", "rankformer_layers"), 900, "rankformer.* is missing"),
        (("state", "structure", "image_adapter"), "linear", "state.adapter is .mlp., and the parameter says .linear."),
        (("state", "record", "image_config", "vision_cfg"), {"timm_model_name": "hf-hub:a/b"}, None),
        (("state", "structure", "white_level"), 0, "state.structure.white_level"),
        (("state", "structure", "white_level"), 4095, "white_level=None contradicts"),
        (("params", "decision"), "Median", "decision must be one of"),
        (("params", "class_weight"), [[9, 1.0]], "class_weight names 9"),
        (("params", "nonsense"), 1, "params holds an unknown parameter 'nonsense'"),
        (("arrays", "bytes"), 2**41, "belongs to 2199023255552"),
        (("includes_backbone",), "../elsewhere", "includes_backbone"),
        (("more",), 1, "unknown part"),
        (("state", "ranks", "dtype"), "<i8\n", "state.ranks.dtype"),
        (("state", "record", "fingerprint"), "a" * 64 + "\n", "state.record.fingerprint"),
        (("includes_backbone",), "backbone\n", "includes_backbone"),
        (("params", "class_weight"), [[0, 1], [0, 2]], "names a label twice"),
        (("params", "batch_size"), 10**299, "params.batch_size"),
        (("format_version",), 5.0, "has format version 5.0, and this version .* reads 8"),
        (("state", "features"), "tower", "state.n_features is None, and state.features 'tower'"),
        (("state", "blocks", "embedding"), 2, "state.blocks.embedding is no block"),
        (("state", "blocks", "embedding"), None, "state.features is 'embedding', and the blocks allow"),
        (("state", "blocks", "blocks"), [["embedding", 24], ["x", 4]], "state.n_columns gives"),
        (("state", "n_features"), 3, "state.n_features is 3, and state.features 'embedding'"),
        (("state", "errors"), dict.fromkeys(ERRORS, 0) | {"position": 1e100}, "sums over no images"),
    ],
)
def test_a_field_that_cannot_be_is_named(saved, place, value, message):
    description = json.loads((saved / "model.json").read_text())
    inner = description
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    fault_saves.write_description(saved, description)
    if message is None:  # of no use where the tower is not trained
        L2RCLIPClassifier.load(saved)
        return
    with pytest.raises(ValueError, match=message):
        L2RCLIPClassifier.load(saved)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("features",), "tower", "state.features is 'tower', and the array projection.weight says otherwise"),
        (("adapter",), "mlp", "adapter.hidden_weight is not of the shape"),
        (("blocks", "embedding"), 1, "state.blocks.embedding is a block of another (name|width)"),
        (("blocks", "embedding"), None, "state.blocks does not begin with the embedding"),
        (("blocks", "blocks"), [["embedding", 24], ["x", 80], ["x", 80]], "state.blocks names a block twice"),
        (("n_features",), 3, "projection.weight is not of the shape"),
    ],
)
def test_what_is_said_of_features_must_fit(fitted_classifier, tmp_path, place, value, message):
    chosen = {"image_features": "both", "image_adapter": "linear"}
    fitted_classifier(**chosen, prompt_epochs=1).save(tmp_path / "model")
    description = json.loads((tmp_path / "model" / "model.json").read_text())
    for part in (description["params"], description["state"]["structure"]):
        part.update(dict.fromkeys(chosen, "auto"))
    inner = description["state"]
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    fault_saves.write_description(tmp_path / "model", description)
    with pytest.raises(ValueError, match=message):
        L2RCLIPClassifier.load(tmp_path / "model")


@pytest.mark.parametrize("text", ["[" * 100_000, "NaN", '{"format_version": Infinity}', "\x00", "null", '"3"', "{}"])
def test_what_is_no_description_is_refused(saved, text):
    (saved / "model.json").write_text(text)
    with pytest.raises(ValueError, match="is damaged or is not a saved model"):
        L2RCLIPClassifier.load(saved)
