"""Parameters of fits that several test modules ask for."""

# without an adapter no epochs are selected: all those of the second stage count
ALL_OF_IT = {"image_tower": "finetune", "image_adapter": None}
BASE = {"prompt": "a photo of", "prompt_epochs": 2}
FINETUNE = {**ALL_OF_IT, "image_epochs": 1, "prompt_epochs": 0, "image_learning_rate": 1e-3}
