"""Serves a WSGI application with a thread for each request: `python -m tests.live.threaded MODULE:NAME PORT`."""

import sys
from importlib import import_module
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None: ...


if __name__ == "__main__":
    module, _, name = sys.argv[1].partition(":")
    make_server("127.0.0.1", int(sys.argv[2]), getattr(import_module(module), name), Server, Quiet).serve_forever()
