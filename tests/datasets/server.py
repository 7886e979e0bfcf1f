"""A local HTTP server that serves one file well or badly."""

import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def serving(content, status=200, cut=None, ranges=True, delay=0.0, length=None):
    """Serve `content` at any path; yields (address, list of the Range headers that were asked for).

    Args:
        content: the file's bytes.
        status: the answer's status, 200 or an error.
        cut: close the connection once this many bytes of an answer were sent.
        ranges: whether the server knows how to send a part.
        delay: seconds between the pieces of an answer.
        length: what the header claims in place of the true length.
    """
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            wanted = self.headers.get("Range")
            asked.append(wanted)
            if status != 200:
                return self.send_error(status)
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and ranges else 0
            if start and start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                return self.end_headers()
            body = content[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(length or len(body)))
            self.end_headers()
            body = body[:cut]
            for at in range(0, len(body), 4096):
                self.wfile.write(body[at : at + 4096])
                time.sleep(delay)
            self.close_connection = True

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/some/file.hdf5", asked
    finally:
        server.shutdown()
        server.server_close()
