import doctest
import json
import pickle

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from torch.nn import functional as F

from skl2rclip import CLIPImageEncoder, _encoder
from skl2rclip._clip.backbone import load_backbone, unload_backbones
from skl2rclip._clip.embedded import EMBEDDED_NAMES
from skl2rclip._clip.features import FeatureTower
from skl2rclip._clip.source import BackboneSource
from skl2rclip._clip.tokenizer import tokenizer_of
from skl2rclip._embedding.cache import forget_embeddings
from skl2rclip._utils.arguments import FINGERPRINT_ATTRIBUTE
from skl2rclip.errors import InvalidParameterError, UnreadableImagesError
from tests.support.small_models import CONFIGS


@pytest.mark.parametrize("kind", ["clip", "custom_text", "quick_gelu_resnet", "eos_linear_head"])
def test_embeddings_equal_open_clips(model_names, shades, kind):
    model = open_clip.create_model(model_names[kind]).eval()
    transform = open_clip.transform.image_transform_v2(
        open_clip.transform.PreprocessCfg(**model.visual.preprocess_cfg), is_train=False
    )
    with torch.no_grad():
        pixels = torch.stack([transform(Image.fromarray(image)) for image in shades[0]])
        expected = model.encode_image(pixels, normalize=True).numpy()
    encoder = CLIPImageEncoder(model_names[kind], batch_size=7).fit()
    np.testing.assert_allclose(encoder.transform(shades[0]), expected, atol=1e-5)
    assert encoder.embedding_width_ == 24
    assert encoder.get_feature_names_out()[1] == "embedding__1"


@pytest.mark.parametrize("kind", [*CONFIGS, *EMBEDDED_NAMES])
def test_texts_beside_images_have_open_clips_similarities(model_names, shades, kind):
    name, words = model_names.get(kind, kind), ["pitch black", "a photo of a glass", "white"]
    encoder = CLIPImageEncoder(name, device="cpu").fit()
    backbone = load_backbone(BackboneSource(name, "openai"))
    tokenizer = tokenizer_of(name, backbone.config["text_cfg"])
    with torch.no_grad():
        expected = backbone.model.encode_text(tokenizer(words), normalize=True).numpy()
    texts = encoder.encode_text(words)
    assert (texts.dtype, texts.shape) == (np.float32, (3, encoder.embedding_width_))
    np.testing.assert_allclose(texts, expected, atol=1e-5)
    np.testing.assert_allclose(encoder.encode_text("white"), expected[2:], atol=1e-5)
    images = encoder.transform(shades[0][:3])
    np.testing.assert_allclose(images @ texts.T, images @ expected.T, atol=1e-5)


def test_the_example_of_the_documentation_holds():
    result = doctest.testmod(_encoder)
    assert (result.failed, result.attempted > 6) == (0, True)


def test_a_checkpoint_file_may_be_a_path(tiny, shades, tmp_path):
    (tmp_path / "tiny-clip-of-a-path.json").write_text(json.dumps(CONFIGS["clip"]))
    open_clip.add_model_config(tmp_path)
    torch.save(load_backbone(BackboneSource(tiny)).model.state_dict(), tmp_path / "weights.pt")
    by_path, by_name = (
        CLIPImageEncoder("tiny-clip-of-a-path", file, device="cpu").fit()
        for file in (tmp_path / "weights.pt", str(tmp_path / "weights.pt"))
    )
    assert by_path.get_params()["pretrained"] == tmp_path / "weights.pt"  # stored untouched
    np.testing.assert_array_equal(by_path.transform(shades[0]), by_name.transform(shades[0]))
    pickle.loads(pickle.dumps(clone(by_path).fit())).transform(shades[0])


def test_half_precision_is_near(tiny, shades):
    full, half = (CLIPImageEncoder(tiny, precision=p).fit().transform(shades[0]) for p in ("float32", "bfloat16"))
    assert 0 < np.abs(full - half).max() < 0.05
    assert half.dtype == np.float32
    full, half = (CLIPImageEncoder(tiny, precision=p).fit().encode_text("a glass") for p in ("float32", "bfloat16"))
    assert 0 < np.abs(full - half).max() < 0.05
    assert half.dtype == np.float32


@pytest.mark.parametrize("features", ["embedding", "both"])
def test_half_precision_does_not_depend_on_what_is_embedded_together(tiny, shades, features):
    encoder = CLIPImageEncoder(tiny, precision="bfloat16", image_features=features).fit()
    together = encoder.transform(shades[0])
    forget_embeddings()
    np.testing.assert_array_equal(np.vstack([encoder.transform([image]) for image in shades[0]]), together)


def test_towers_with_batch_norm_compute_in_single_precision(model_names, shades):
    model_name = model_names["quick_gelu_resnet"]
    full, half = (CLIPImageEncoder(model_name, precision=p).fit().transform(shades[0]) for p in ("float32", "bfloat16"))
    np.testing.assert_array_equal(half, full)


def test_pandas_output(tiny, shades):
    frame = CLIPImageEncoder(tiny).set_output(transform="pandas").fit_transform(shades[0])
    assert frame.shape == (40, 24)
    assert frame.columns[0] == "embedding__0"


@pytest.mark.parametrize("kind", ["clip", "quick_gelu_resnet"])
def test_what_the_tower_holds_stands_behind_the_embedding(model_names, shades, kind, through_tower):
    name = model_names[kind]
    X, encoders = (
        shades[0][:6],
        [CLIPImageEncoder(name, image_features=each) for each in ("embedding", "tower", "both")],
    )
    embedding, tower, both = (encoder.fit_transform(X) for encoder in encoders)
    assert both.dtype == np.float32
    np.testing.assert_allclose(both[:, :24], embedding, atol=1e-6)
    np.testing.assert_array_equal(both[:, 24:], tower)
    assert sum(through_tower) == 12  # once for the embedding alone, once for the others
    backbone = load_backbone(BackboneSource(name))
    for encoder, rows in zip(encoders, (embedding, tower, both), strict=True):
        names = [f"{block}__{i}" for block, width in encoder.feature_blocks_.items() for i in range(width)]
        assert encoder.get_feature_names_out().tolist() == names
        assert rows.shape == (6, len(names))
        assert encoder.embedding_width_ == 24
    assert tuple(encoders[2].feature_blocks_.items()) == backbone.feature_blocks.blocks
    frame = encoders[1].set_output(transform="pandas").transform(X)
    assert (frame.columns[0], frame.columns[-1]) == ("pooled__0", names[-1])
    assert frame.attrs[FINGERPRINT_ATTRIBUTE] == backbone.fingerprint
    np.testing.assert_array_equal(encoders[2].encode_text("a glass"), encoders[0].encode_text("a glass"))


def test_who_wants_the_embedding_after_both_passes_no_image_again(tiny, shades, through_tower):
    both = CLIPImageEncoder(tiny, image_features="both").fit_transform(shades[0])
    again = pickle.loads(pickle.dumps(CLIPImageEncoder(tiny).fit())).transform(shades[0])
    np.testing.assert_array_equal(again, both[:, :24])
    assert sum(through_tower) == 40


@pytest.mark.parametrize("name", EMBEDDED_NAMES)
def test_half_precision_moves_similarities_by_less_than_a_thousandth(name):
    backbone = load_backbone(BackboneSource(name))
    pixels = torch.rand(16, 3, *backbone.preprocessing.size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        rows = FeatureTower(backbone.model.visual)(pixels * torch.linspace(0.1, 3, 16)[:, None, None, None]).double()
    for block in rows.split([width for _, width in backbone.feature_blocks.blocks], dim=1):
        exact, rounded = (F.normalize(each, dim=1) for each in (block, block.half().double()))
        assert float((exact @ exact.T - rounded @ rounded.T).abs().max()) < 1e-3


def test_features_set_after_the_fit_are_refused(tiny, shades):
    encoder = CLIPImageEncoder(tiny).fit().set_params(image_features="tower")
    with pytest.raises(
        InvalidParameterError, match=r"image_features='tower' contradicts the image_features='embedding'"
    ):
        encoder.transform(shades[0])


def test_a_tower_that_cannot_be_read_is_refused_by_the_fit_and_embeds_all_the_same(tiny, shades, monkeypatch):
    monkeypatch.setattr("skl2rclip._clip.features.VisionTransformer", type("Another", (), {}))
    unload_backbones()
    try:
        with pytest.raises(InvalidParameterError, match=r"VisionTransformer, .* image_features='embedding' takes any"):
            CLIPImageEncoder(tiny, image_features="both").fit()
        assert CLIPImageEncoder(tiny).fit_transform(shades[0]).shape == (40, 24)
    finally:
        unload_backbones()


def test_unfitted_and_unreadable(tiny, tmp_path):
    with pytest.raises(NotFittedError):
        CLIPImageEncoder(tiny).transform(["a.png"])
    with pytest.raises(NotFittedError):
        CLIPImageEncoder(tiny).encode_text(["a glass"])
    with pytest.raises(UnreadableImagesError, match=r"X\[0\] \(.*nothing.png\): no such file"):
        CLIPImageEncoder(tiny).fit().transform([tmp_path / "nothing.png"])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"model_name": "ViT-B-15"}, "model_name"),
        ({"model_name": None}, "model_name must be a string"),
        ({"pretrained": 3}, "pretrained must be a string, a path or None, got 3"),
        ({"device": ["cpu", "cpu"]}, "device must be a string"),
        ({"max_memory": "much"}, "max_memory must be"),
        ({"batch_size": 0}, "batch_size must be an integer of at least 1, or 'auto', got 0"),
        ({"device": "gpu"}, "device must be"),
        ({"precision": "half"}, "precision must be one of"),
        ({"image_features": "auto"}, "image_features must be one of 'embedding', 'tower', 'both', got 'auto'"),
        ({"image_features": ["both"]}, "image_features must be one of"),
        ({"n_jobs": 0}, "n_jobs"),
    ],
)
def test_bad_parameters_are_named(tiny, parameters, message):
    with pytest.raises(InvalidParameterError, match=message):
        CLIPImageEncoder(**{"model_name": tiny, **parameters}).fit()


def test_clone_and_pickle(tiny, shades):
    encoder = CLIPImageEncoder(tiny).fit()
    again = pickle.loads(pickle.dumps(encoder))
    np.testing.assert_array_equal(again.transform(shades[0]), encoder.transform(shades[0]))
    assert clone(encoder).get_params() == encoder.get_params()


def test_an_image_that_takes_more_than_the_bound_is_named_with_the_setting_that_allows_it(tiny, tmp_path):
    path = tmp_path / "large.png"
    Image.new("RGBA", (700, 700)).save(path)
    with pytest.raises(
        UnreadableImagesError, match=r"700 x 700 pixels takes .* the 1 MB .* max_memory='6.5MB' allows it"
    ):
        CLIPImageEncoder(tiny, max_memory=1000).fit().transform([path])
    assert CLIPImageEncoder(tiny, max_memory="6.5MB").fit().transform([path]).shape == (1, 24)


def test_another_white_level_than_that_of_the_fit_is_refused_and_a_first_one_taken():
    image = np.full((64, 64), 4000, np.uint16)
    encoder = CLIPImageEncoder("skl2rclip-tiny", white_level=4095).fit([image])
    expected = encoder.transform([image])
    with pytest.raises(ValueError, match=r"white_level=1023.0 contradicts the white_level=4095.0 that was fitted"):
        encoder.set_params(white_level=1023).transform([image])
    dark = CLIPImageEncoder("skl2rclip-tiny").fit([image])
    np.testing.assert_allclose(dark.set_params(white_level=4095).transform([image]), expected, atol=1e-6)
