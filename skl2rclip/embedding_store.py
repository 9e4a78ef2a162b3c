"""Embeddings in a folder, for all processes that are given it."""

from skl2rclip._embedding.store import EmbeddingStore as EmbeddingStore

__all__ = ["EmbeddingStore"]
