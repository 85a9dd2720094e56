"""A server for one module of tests, with settings that few servers have."""

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.chaos.cluster import Cluster
from pgqueue import App


@contextmanager
def shop_server(*, extension: str | None = None, **settings: str) -> Iterator[Cluster]:
    """Its database `shop` is migrated. Nothing of it is to outlive a crash, so it waits for no disk."""
    with Cluster(fsync="off", **settings) as cluster:
        with cluster.connect() as admin:
            admin.execute("create database shop")
        App(cluster.dsn("shop")).migrate()
        if extension is not None:
            with cluster.connect("shop") as admin:
                admin.execute(f"create extension {extension}")
        yield cluster
