"""What chapters call to show source, ask questions, and show progress."""

import inspect

import pytest

from ttlib import records, teaching


def shown(monkeypatch, *things):
    displayed = []
    monkeypatch.setattr("IPython.display.display", displayed.append)
    teaching.show_source(*things)
    return displayed[0].data


def test_the_source_that_is_shown_is_the_source_that_runs(monkeypatch):
    text = shown(monkeypatch, records.Record.claim, records.band_text)
    assert text.count("`ttlib/records.py`") == 2
    assert inspect.getsource(records.band_text).strip() in text
    assert "\ndef claim(self, id" in text  # a method stands at the margin


def test_what_has_no_source_is_named():
    with pytest.raises(TypeError, match="has no Python source to show"):
        teaching.show_source(len)


def nothing():
    raise NotImplementedError


def wrong():
    raise AssertionError("the sum is not 3.")


def broken():
    return None + 1


@pytest.mark.parametrize(
    ("check", "line"),
    [
        (lambda: None, "Solved."),
        (lambda: True, "Solved."),
        (nothing, "Not solved yet: nothing is written yet. "),
        (wrong, "Not solved yet: the sum is not 3. "),
        (lambda: False, "Not solved yet: the result is not right yet. "),
        (lambda: "two bins are empty", "Not solved yet: two bins are empty. "),
        (broken, "Not solved yet: your code stops with TypeError: unsupported operand"),
    ],
)
def test_an_exercise_answers_with_a_sentence_and_never_raises(capsys, check, line):
    assert teaching.exercise(check) is None  # a value would be shown under the cell
    assert capsys.readouterr().out.startswith(line)
