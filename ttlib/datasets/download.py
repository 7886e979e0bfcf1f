"""Downloads: a file fetched over HTTP, resumed where an earlier attempt stopped, moved into place when whole.

What has arrived lies in `<file>.part` until its length is right; a broken
connection leaves it there and the next call asks the server only for the rest.
"""

import http.client
import os
import urllib.error
import urllib.request
from pathlib import Path

from tqdm import tqdm

CHUNK = 1 << 18


def download(url, path, check=None, timeout=30, attempts=3, progress=True):
    """Fetch `url` to `path`, unless it is there.

    Args:
        url: http or https address.
        path: where the whole file will be.
        check: called with the path of the fetched file before it is moved into place;
            it raises ValueError if that is not what was expected, and the file is deleted.
        timeout: seconds without any data until the connection counts as broken.
        attempts: how many times a broken connection is taken up again in this call.
        progress: whether a bar is shown.

    Returns:
        `path`.

    Raises:
        OSError: no network, the server has no such file, the connection broke for good
            (what came is kept), or the file cannot be written.
        ValueError: the fetched file is not what `check` expects.
    """
    path = Path(path)
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    for attempt in range(attempts):
        before = _size(part)
        try:
            whole = _fetch(url, part, timeout, progress)
        except urllib.error.HTTPError as error:
            raise OSError(
                f"{url} answered {error.code} ({error.reason}), so {path.name} cannot be downloaded; "
                f"if you have the file, put it at {path}."
            ) from error
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
            reason = getattr(error, "reason", None) or error
            if attempt + 1 == attempts or (_size(part) == before and isinstance(error, urllib.error.URLError)):
                raise OSError(
                    f"{url} cannot be reached ({reason}); {_size(part):,} bytes of {path.name} are kept: look after "
                    f"the network and run the same command again, or put the file at {path}."
                ) from error
            continue
        except OSError as error:
            raise OSError(
                f"{part} cannot be written ({error.strerror or error}); free some space and run the same command "
                "again: what was downloaded is kept."
            ) from error
        if whole:
            break
    else:
        raise OSError(
            f"the connection to {url} broke {attempts} times; {_size(part):,} bytes of {path.name} are kept: "
            "run the same command again to fetch the rest."
        )
    if check is not None:
        try:
            check(part)
        except ValueError:
            part.unlink()
            raise
    os.replace(part, path)
    return path


def _fetch(url, part, timeout, progress):
    """Append what is missing to `part`; True if the file is whole afterwards."""
    have = _size(part)
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not have:
            raise
        # Nothing after byte `have`: the part is whole, or it is not of this file.
        if error.headers.get("Content-Range", "").endswith(f"/{have}"):
            return True
        part.unlink()
        return False
    with response:
        resumed = response.status == 206
        length = response.headers.get("Content-Length")
        start = have if resumed else 0
        total = None if length is None else start + int(length)
        bar = tqdm(total=total, initial=start, unit="B", unit_scale=True, desc=part.stem, disable=not progress)
        with open(part, "ab" if resumed else "wb") as file, bar:
            while chunk := response.read(CHUNK):
                file.write(chunk)
                bar.update(len(chunk))
    return total is None or _size(part) == total


def _size(path):
    return path.stat().st_size if path.exists() else 0
