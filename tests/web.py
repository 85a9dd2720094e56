"""Starlette's TestClient, which would rather have httpx2, a newer package than the httpx that is here."""

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

__all__ = ["TestClient"]
