"""A Ctrl-C at any line: what a fit changes in the process is put back, and its folders are free again."""

import dis
import sys

import pytest

from skl2rclip._embedding import locks, store
from skl2rclip._embedding.store import EmbeddingStore
from skl2rclip._utils import interrupts, scratch, threads
from skl2rclip._utils.interrupts import undone_by

FILES = {module.__file__ for module in (interrupts, scratch, threads, store, locks)}


def traced(run, at=None):
    """Call a function; return the lines of the modules that it reaches, and raise KeyboardInterrupt at one of them."""
    reached = []

    def local(frame, event, argument):
        line = (frame.f_code.co_filename, frame.f_lineno)
        # at a line such as "try:" no signal is looked for
        is_new = event == "line" and line not in reached and frame.f_code.co_code[frame.f_lasti] != dis.opmap["NOP"]
        if is_new:
            reached.append(line)
            if line == at:
                raise KeyboardInterrupt
        return local

    before = sys.gettrace()
    sys.settrace(lambda frame, event, argument: local if frame.f_code.co_filename in FILES else None)
    try:
        run()
    finally:
        sys.settrace(before)
    return reached


def test_what_undoes_is_called_again_where_it_was_interrupted():
    calls = []

    def undo():
        calls.append(len(calls))
        if len(calls) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), undone_by(undo):
        pass
    assert calls == [0, 1]
    with pytest.raises(ValueError, match="of the block"), undone_by(lambda: calls.append("once")):
        raise ValueError("of the block")
    assert calls == [0, 1, "once"]


@pytest.mark.parametrize("what", ["threads", "scratch", "held", "claims"])
def test_a_ctrl_c_at_any_line_leaves_nothing_behind(tmp_path, what):
    folder = tmp_path / "folder"
    folder.mkdir()

    def run():
        if what == "threads":
            with threads.threads_for(1):
                assert threads._blas_limit._inside
        elif what == "scratch":
            with scratch.scratch_folder(folder, "x") as own:
                (own / "file").write_text("x")
        elif what == "held":
            with scratch.held_unless_taken(folder) as is_held:
                assert is_held
        else:
            mine = EmbeddingStore(folder)
            with mine.owner() as owner:
                assert mine.claim([b"key"], owner) == [b"key"]

    run()
    lines = traced(run)
    assert len(lines) > 5
    for line in lines[:: 3 if what == "claims" else 1]:  # these write a database each
        with pytest.raises(KeyboardInterrupt) as kept:  # with its traceback, as notebooks do
            traced(run, at=line)
        assert not threads._blas_limit._inside
        assert threads._of_thread.n_before is None
        assert not locks._held
        with scratch.held_unless_taken(folder) as is_held:
            assert is_held, line
        other = EmbeddingStore(folder)
        if what == "claims":
            with other.owner() as owner:
                assert other.claim([b"key"], owner) == [b"key"], line
        left = [path.name for path in folder.iterdir() if "sqlite" not in path.name]
        if left:  # where the removal itself was interrupted the next folder of the name takes it along
            with scratch.scratch_folder(folder, "x"):
                pass
            left = [path.name for path in folder.iterdir()]
        assert not left, line
        del kept
