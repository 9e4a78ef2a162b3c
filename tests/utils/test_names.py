"""Names are shown so that one sees what is wrong with them, and what was meant is named."""

import os
import socket
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from skl2rclip import find_unreadable
from skl2rclip._utils.names import near_name, near_word, unseen_difference
from skl2rclip.errors import UnreadableImagesError, visible
from tests.support.helpers import embedded, within, write_images

ACCENTED = "caf\xe9.png"
APART = unicodedata.normalize("NFD", ACCENTED)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("/data/a b.png", "/data/a b.png"),
        ("C:\\data\\a.png", "C:\\data\\a.png"),
        (ACCENTED, ACCENTED),
        ("\u0939\u093f\u0928\u094d\u0926\u0940.png", "\u0939\u093f\u0928\u094d\u0926\u0940.png"),
        (APART, r"'cafe\u0301.png'"),
        ("\ufeffa.png", r"'\ufeffa.png'"),
        ("a.png ", "'a.png '"),
        ("a\xa0b.png", r"'a\xa0b.png'"),
        ("a.png\n", r"'a.png\n'"),
        ("a\0b", r"'a\x00b'"),
        ("a\u200b.png", r"'a\u200b.png'"),
        ("\udcff.png", r"'\udcff.png'"),
    ],
)
def test_what_does_not_show_is_written_out(name, shown):
    assert visible(name) == shown
    shown.encode()  # what is not UTF-8 could not be printed


def test_long_names_are_shortened():
    assert len(visible("a" * 5000)) < 300
    assert "5000 characters" in visible("a" * 5000)


@pytest.mark.parametrize(
    ("there", "asked", "expected"),
    [
        ("a.png", "a.png ", "the folder has a.png"),
        ("a.png", "\ufeffa.png", "the folder has a.png"),
        ("a.png", "a\u200b.png", "the folder has a.png"),
        ("a b.png", "a\xa0b.png", "the folder has a b.png"),
        ("a.png ", "a.png", "the folder has 'a.png '"),
        ("a.PNG", "a.png", "the folder has a.PNG, which differs only in letter case"),
        (APART, ACCENTED, r"the folder has 'cafe\u0301.png'"),
        (ACCENTED, APART, f"the folder has {ACCENTED}"),
        ("b.png", "a.png", None),
    ],
)
@pytest.mark.skipif(sys.platform in ("darwin", "win32"), reason="such names are the same file there")
def test_what_was_meant_is_named(tmp_path, there, asked, expected):
    (tmp_path / there).touch()
    found = near_name(str(tmp_path / asked))
    assert found is None if expected is None else expected in found
    reason = find_unreadable([tmp_path / asked])[0]
    assert reason == "no such file" if expected is None else expected in reason


@pytest.mark.parametrize(
    ("one", "other", "difference"),
    [
        ("Mild", "mild", "letter case"),
        ("mild ", "mild", "blanks"),
        ("very\xa0mild", "very mild", "blanks"),
        (APART, ACCENTED, "how accents are written"),
        ("mild\u200b", "mild", "characters that one hardly sees"),
        ("Mild ", "mild", "characters that one hardly sees"),
        ("mild", "mild", None),
        ("mild", "severe", None),
    ],
)
def test_what_one_hardly_sees_is_said(one, other, difference):
    assert unseen_difference(one, other) == unseen_difference(other, one) == difference
    said = f" {visible(one)} differs from {visible(other)} only in {difference}."
    assert near_word([one, "severe"], ["moderate", other]) == ("" if difference is None else said)


def test_a_file_that_is_added_is_found(tmp_path):
    assert near_name(str(tmp_path / "A.png")) is None
    (tmp_path / "a.png").touch()
    os.utime(tmp_path, (1, 1))
    assert near_name(str(tmp_path / "A.png")) is not None
    assert near_name(str(tmp_path / "nowhere" / "A.png")) is None


def test_an_address_that_was_made_a_path_is_seen_to_be_one():
    assert "was an address" in find_unreadable([Path("https://example.org/a.png")])[0]


@pytest.mark.skipif(os.name != "posix", reason="needs such files")
def test_names_of_all_kinds_are_listed_and_none_is_waited_for(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as server:
        monkeypatch.chdir(tmp_path)  # the name of a socket may not be long
        server.bind("socket")
        X = [
            "a\0b",
            "a" * 5000,
            "/".join(["a" * 100] * 60),
            "pipe",
            "/dev/zero",
            "socket",
            tmp_path,
            "",
            tmp_path / "no\n",
        ]
        found = within(60, lambda: find_unreadable(X))
    assert list(found) == list(range(len(X)))
    expected = ["null character", "longer than", "longer than", "a pipe", "a device", "a socket", "a folder"]
    for index, words in enumerate(expected):
        assert words in found[index]
    assert found[7] == found[8] == "no such file"
    with pytest.raises(UnreadableImagesError) as caught:
        within(60, lambda: embedded([*X[3:6], X[8]], None))
    assert r"no\n'): no such file" in str(caught.value)
    assert "X[0] (pipe): this is a pipe" in str(caught.value)


@pytest.mark.skipif(sys.platform != "linux", reason="needs names of any bytes")
@pytest.mark.parametrize("folder", [None, "cache"])
def test_names_that_are_not_utf_8_are_read_as_others_are(tmp_path, folder):
    [path] = write_images(tmp_path / "images", 1)
    odd = os.fsdecode(os.fsencode(path)[:-4] + b"\xff\xfe.png")

    class BytesPath(os.PathLike):
        def __fspath__(self):
            return os.fsencode(odd)

    os.link(path, odd)
    folder = folder and tmp_path / folder
    for _ in range(2):
        rows = embedded([path, odd, np.str_(path), BytesPath()], folder)
        np.testing.assert_allclose(rows, rows[[0, 0, 0, 0]], atol=1e-6)
    os.remove(odd)
    with pytest.raises(UnreadableImagesError) as caught:
        embedded([odd, BytesPath()], folder)
    assert str(caught.value).encode().count(rb"\udcff\udcfe.png'): no such file") == 2


@pytest.mark.skipif(os.sep != "/", reason="there it is a path")
def test_a_path_that_was_written_on_windows_is_found_as_it_is_told(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "a.png").write_bytes(b"there")
    path = f"{tmp_path}/inner\\a.png"
    said = find_unreadable([path])[0]
    assert said.startswith("no such file; with / between its folders")
    assert os.path.isfile(eval(said.partition("it is there: ")[2], {"path": path}))  # noqa: S307
    assert find_unreadable([f"{tmp_path}/inner\\b.png"]) == {0: "no such file"}
