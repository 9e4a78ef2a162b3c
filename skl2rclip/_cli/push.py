"""Upload a model to a repository of the Hugging Face Hub, with a card that says what it is.

It is sent by the account that hf auth login or the environment variable HF_TOKEN names. No training image and no path
of this machine is among what is sent.
"""

from __future__ import annotations

import argparse
from typing import Any

from skl2rclip._cli.console import Console
from skl2rclip._cli.models import add_model, loaded_model
from skl2rclip._cli.output import rows_out


def add_options(parser: Any) -> None:
    """Add the model, the repository, and how it is uploaded."""
    parser.usage = "%(prog)s MODEL REPOSITORY [options]"
    add_model(parser)
    parser.add_argument("repo_id", metavar="REPOSITORY", help="Its name, such as someone/ripeness.")
    parser.add_argument(
        "--private", action="store_true", default=None, help="Make a repository that is new one that others do not see."
    )
    parser.add_argument("--revision", metavar="NAME", help="Branch to upload to; by default main.")
    parser.add_argument("--create-pr", action="store_true", help="Propose a pull request instead of changing it.")
    parser.add_argument("--commit-message", metavar="TEXT", help="What the commit says.")
    parser.add_argument("--include-backbone", action="store_true", help="Upload the backbone too.")
    parser.add_argument("--replace-card", action="store_true", help="Write README.md anew where there is one.")


def run(options: argparse.Namespace, console: Console) -> int:
    """Upload."""
    model: Any = loaded_model(options, reads_images=False)
    address = model.push_to_hub(
        options.repo_id,
        private=options.private,
        revision=options.revision,
        create_pr=options.create_pr,
        commit_message=options.commit_message,
        include_backbone=options.include_backbone,
        replace_card=options.replace_card,
    )
    with rows_out(None, ["repository", "address"], "csv") as rows:
        rows.write([[options.repo_id, None if address is None else str(address)]])
    return 0
