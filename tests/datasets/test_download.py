"""Downloads from a server that is slow, breaks off, lies about the length or has no such file."""

import numpy as np
import pytest

from tests.datasets.server import serving
from ttlib.datasets.download import download

CONTENT = np.random.default_rng(0).bytes(50_000)


def fetch(url, path, **options):
    return download(url, path, progress=False, **{"timeout": 5} | options)


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_whole_file(tmp_path):
    path = tmp_path / "new" / "file.hdf5"
    with serving(CONTENT) as (url, asked):
        assert fetch(url, path) == path
        assert path.read_bytes() == CONTENT and files(path.parent) == ["file.hdf5"]
        fetch(url, path)
        assert asked == [None], "what is there is not fetched again"


def test_a_slow_server(tmp_path):
    with serving(CONTENT, delay=0.02) as (url, _):
        fetch(url, tmp_path / "a", timeout=0.5)
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_a_connection_that_breaks_is_taken_up_where_it_broke(tmp_path):
    with serving(CONTENT, cut=20_000) as (url, asked):
        fetch(url, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT
    assert asked == [None, "bytes=20000-", "bytes=40000-"]


def test_what_came_is_kept_and_resumed_by_the_next_call(tmp_path):
    with serving(CONTENT, cut=10_000) as (url, _):
        with pytest.raises(OSError, match="broke 2 times; 20,000 bytes of a are kept: run the same command again"):
            fetch(url, tmp_path / "a", attempts=2)
    assert files(tmp_path) == ["a.part"] and (tmp_path / "a.part").read_bytes() == CONTENT[:20_000]
    with serving(CONTENT) as (url, asked):
        fetch(url, tmp_path / "a")
    assert asked == ["bytes=20000-"]
    assert (tmp_path / "a").read_bytes() == CONTENT and files(tmp_path) == ["a"]


def test_a_server_that_cannot_resume_begins_anew(tmp_path):
    (tmp_path / "a.part").write_bytes(b"something else")
    with serving(CONTENT, ranges=False) as (url, _):
        fetch(url, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_a_part_that_is_already_whole(tmp_path):
    (tmp_path / "a.part").write_bytes(CONTENT)
    with serving(CONTENT) as (url, _):
        fetch(url, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT


def test_a_part_that_is_too_long_is_thrown_away(tmp_path):
    (tmp_path / "a.part").write_bytes(CONTENT + b"more")
    with serving(CONTENT) as (url, _):
        fetch(url, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == CONTENT


@pytest.mark.parametrize("status", [404, 403, 500])
def test_a_server_without_the_file(tmp_path, status):
    with serving(CONTENT, status=status) as (url, _):
        with pytest.raises(OSError, match=f"answered {status} .* put it at"):
            fetch(url, tmp_path / "a")
    assert files(tmp_path) == []


def test_a_length_that_is_never_reached(tmp_path):
    with serving(CONTENT, length=60_000, ranges=False) as (url, _):
        with pytest.raises(OSError, match="broke 3 times"):
            fetch(url, tmp_path / "a")
    assert files(tmp_path) == ["a.part"]


def test_no_network(tmp_path):
    with serving(CONTENT) as (url, _):
        pass
    with pytest.raises(OSError, match="cannot be reached .*0 bytes of a are kept"):
        fetch(url, tmp_path / "a")
    assert files(tmp_path) == []


def test_a_file_that_fails_its_check_is_not_kept(tmp_path):
    def check(path):
        assert path.read_bytes() == CONTENT
        raise ValueError("not what we want")

    with serving(CONTENT) as (url, _), pytest.raises(ValueError, match="not what we want"):
        fetch(url, tmp_path / "a", check=check)
    assert files(tmp_path) == []


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with serving(CONTENT) as (url, _), pytest.raises(OSError, match="file"):
        fetch(url, tmp_path / "file" / "a")
