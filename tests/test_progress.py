from ttlib.progress import progress


def test_progress_is_silent_where_nobody_looks(capsys):
    assert list(progress(range(3), label="training")) == [0, 1, 2]
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""
