"""What a fitted model keeps of its backbone, and how it is loaded again and checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from skl2rclip._clip.backbone import Backbone, load_backbone
from skl2rclip._clip.fingerprint import function_of
from skl2rclip._clip.source import BackboneSource, absolute
from skl2rclip._images.preprocessing import Preprocessing
from skl2rclip.errors import MissingBackboneError


@dataclass(frozen=True)
class BackboneRecord:
    """What a fitted model keeps of its backbone: where it came from, and how to tell it again."""

    source: BackboneSource  # with absolute paths
    fingerprint: str
    preprocessing: Preprocessing
    embedding_width: int
    image_config: dict[str, Any]  # architecture of the image tower: embed_dim, vision_cfg, quick_gelu

    @property
    def function(self) -> str:
        """What tells one image tower's function from another's: weights, architecture, and what pixels need."""
        return function_of(self.fingerprint, self.image_config, self.preprocessing)

    @classmethod
    def of(cls, backbone: Backbone) -> BackboneRecord:
        """Record a loaded backbone."""
        config = backbone.config
        return cls(
            source=absolute(backbone.source),
            fingerprint=backbone.fingerprint,
            preprocessing=backbone.preprocessing,
            embedding_width=backbone.embedding_width,
            image_config={
                "embed_dim": config["embed_dim"],
                "vision_cfg": config["vision_cfg"],
                "quick_gelu": config.get("quick_gelu", False),
            },
        )

    def load(self, source: BackboneSource | None = None) -> Backbone:
        """Load the backbone again, from another source where one is given, and check that it is the same."""
        source = source or self.source
        remedy = (
            "Name the same weights with set_params(model_name=..., pretrained=...), or save the model where they are "
            "with save(path, include_backbone=True)."
        )
        try:
            backbone = load_backbone(source)
        except (ValueError, RuntimeError, OSError) as error:
            # one that was raised "from None" has said everything in its message
            cause = None if error.__suppress_context__ and error.__cause__ is None else error
            raise MissingBackboneError(f"The fitted model needs its backbone {source}: {error}\n{remedy}") from cause
        if backbone.fingerprint != self.fingerprint:
            because = "the weights are others"
            if source.is_random:
                drew = "another version of torch drew other random weights"
                because = drew if source.local_folder is None else f"its folder holds no weights, or {drew}"
            raise MissingBackboneError(
                f"The backbone {source} is not the one that the model was fitted with ({because}): fingerprint "
                f"{backbone.fingerprint[:12]}..., expected {self.fingerprint[:12]}... {remedy}"
            )
        # the same weights in another architecture, or for other pixels, make other embeddings
        if backbone.function != self.function:
            raise MissingBackboneError(
                f"The backbone {source} has the right weights, but its configuration is another (vision_cfg or "
                f"preprocess_cfg): {remedy}"
            )
        return backbone
