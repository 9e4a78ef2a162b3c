import pytest

from skl2rclip import L2RCLIPClassifier


@pytest.fixture
def asked(monkeypatch):
    """What `push_to_hub` is asked for; it uploads nothing, and a test of its own shows that it does."""
    calls = {}

    def push_to_hub(self, repo_id, **options):
        calls.update(repo_id=repo_id, **options)
        return f"https://huggingface.co/{repo_id}"

    monkeypatch.setattr(L2RCLIPClassifier, "push_to_hub", push_to_hub)
    return calls


def test_the_address_is_the_row(run, saved, asked):
    said = run("push", saved, "someone/leaves", "--private", "--commit-message", "a word", "--replace-card")
    assert (said.status, said.err) == (0, "")
    assert said.rows == [{"repository": "someone/leaves", "address": "https://huggingface.co/someone/leaves"}]
    assert asked == {
        "repo_id": "someone/leaves",
        "private": True,
        "revision": None,
        "create_pr": False,
        "commit_message": "a word",
        "include_backbone": False,
        "replace_card": True,
    }


def test_whether_it_is_private_is_left_to_the_hub(run, saved, asked):
    assert run("push", saved, "someone/leaves", "--create-pr", "--revision", "next").status == 0
    assert (asked["private"], asked["create_pr"], asked["revision"]) == (None, True, "next")
