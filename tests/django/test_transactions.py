"""A job is in the transaction that Django has open, whatever opened it: requests, savepoints, durable blocks, other aliases."""

from tests.django.site import Site

VIEWS = """
    from asgiref.sync import sync_to_async
    from django.db import connections, transaction
    from django.http import HttpResponse
    from django.urls import path

    from shop.tasks import ship


    def good(request):
        ship.defer("tea")
        return HttpResponse()


    def bad(request):
        ship.defer("tea")
        raise KeyError


    @transaction.non_atomic_requests  # Django has no transactions for async views
    async def waiting(request):
        await ship.defer_async("tea")
        return HttpResponse()


    @transaction.non_atomic_requests
    async def waiting_for_both(request):
        def both():
            try:
                with transaction.atomic():
                    ship.defer("tea")
                    raise KeyError
            finally:
                connections.close_all()  # the client for tests leaves that to the tests

        try:
            await sync_to_async(both)()
        except KeyError:
            return HttpResponse()


    urlpatterns = [path(view.__name__, view) for view in (good, bad, waiting, waiting_for_both)]
"""
PROGRAM = """
    import asyncio
    import logging

    import psycopg
    from django.db import connections, transaction
    from django.test import AsyncClient, Client

    import pgqueue
    from shop.tasks import ship

    seen = psycopg.connect(pgqueue.app.dsn, autocommit=True)


    def new() -> int:
        return len(seen.execute("delete from pgqueue.job returning id").fetchall())


    logging.disable(logging.CRITICAL)
    client = Client(raise_request_exception=False)
    print("good", client.get("/good").status_code, new())
    print("bad", client.get("/bad").status_code, new())
    print("async", asyncio.run(AsyncClient().get("/waiting")).status_code, new())
    print("both", asyncio.run(AsyncClient().get("/waiting_for_both")).status_code, new())

    with transaction.atomic(durable=True):
        ship.defer("tea")
        print("inside of durable", new())
        with transaction.atomic():
            ship.defer_many([("a",), ("b",)])
            transaction.set_rollback(True)
    print("durable", new())

    with transaction.atomic(), transaction.atomic("other"):
        ship.options(conn=connections["other"]).defer("tea")
        ship.options(conn=connections["default"]).defer_many([("a",), ("b",)])
        ship.defer("tea")
        transaction.set_rollback(True, "other")
    print("two aliases", new())

    with transaction.atomic("other"):
        ship.defer("tea")
        print("of another database", new())

    for way in ship.defer, lambda item: ship.defer_many([(item,)]):
        try:
            with transaction.atomic():
                transaction.set_rollback(True)
                way("tea")
        except transaction.TransactionManagementError as error:
            print("broken", str(error)[:58], new())

    with transaction.atomic():
        job = ship.defer("tea")
        print(job.snapshot().state, job.cancel(), job.snapshot().state)
    seen.close()
    connections.close_all()
"""


def test_a_job_is_in_the_transaction_that_is_open(site: Site) -> None:
    site.write("site1/urls.py", VIEWS)
    site.set("""
        ROOT_URLCONF = "site1.urls"
        ALLOWED_HOSTS = ["testserver"]
        DATABASES["other"] = {**DATABASES["default"]}
        DATABASES["default"]["ATOMIC_REQUESTS"] = True
    """)
    said = site.program(PROGRAM)
    assert said.splitlines() == [
        "good 200 1",
        "bad 500 0",
        "async 200 1",
        "both 200 0",
        "inside of durable 0",
        "durable 1",
        "two aliases 3",
        "of another database 1",
        "broken An error occurred in the current transaction. You can't ex 0",
        "broken An error occurred in the current transaction. You can't ex 0",
        "queued True cancelled",
    ]
