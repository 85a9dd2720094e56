"""The admin's page of jobs, with Django's test client, real logins and permissions."""

from importlib import import_module
from typing import Any

from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import TestCase
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

import pgqueue
from pgqueue.contrib.django.models import JobRow

tasks: Any = import_module("tests.django.website.shop.tasks")
UNKNOWN = "019ac000-0000-7000-8000-000000000000"
LIST = "admin:pgqueue_jobrow_changelist"


def sql(statement: str, *values: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return list(cursor.fetchall()) if cursor.description else []


def newest(*ids: str) -> list[str]:
    """In the order of a list: ids of one millisecond have none by age."""
    return sorted(ids, reverse=True)


class Page(TestCase):
    client: Any

    def setUp(self) -> None:
        self.log_in("view", "change")

    def log_in(self, *rights: str) -> User:
        user = User.objects.create_user("-".join(("ann", *rights)), password="secret", is_staff=True)
        for right in rights:
            user.user_permissions.add(Permission.objects.get(codename=f"{right}_jobrow"))
        assert self.client.login(username=user.username, password="secret")
        return user

    def listed(self, **query: str) -> Any:
        response = self.client.get(reverse(LIST), query)
        self.assertEqual(response.status_code, 200)
        return response

    def ids(self, **query: str) -> list[str]:
        return [str(job.id) for job in self.listed(**query).context["cl"].result_list]

    def act(self, action: str, *ids: str) -> Any:
        return self.client.post(reverse(LIST), {"action": action, "_selected_action": ids, "index": 0}, follow=True)

    def url(self, job_id: str) -> str:
        return reverse("admin:pgqueue_jobrow_change", args=[job_id])

    def dead(self, error: str = "ValueError: broken") -> str:
        """A job that was given up."""
        job_id = str(tasks.add.enqueue(1).id)
        sql(
            "with gone as (delete from pgqueue.job where id = %s returning *)"
            " insert into pgqueue.history (id, claim_token, run_at, created_at, state, attempt, crashes, priority, queue, task,"
            " args, kwargs, headers, error)"
            " select id, 0, run_at, created_at, 'dead', 1, 0, priority, queue, task, args, kwargs, headers, %s from gone",
            job_id, error,
        )  # fmt: skip
        sql(
            "insert into pgqueue.attempt (job_id, claim_token, attempt, task, queue, worker_name, cause, error, traceback)"
            " values (%s, 0, 1, 'x', 'default', 'here:1', 'exception', %s, 'Traceback of it')",
            job_id, error,
        )  # fmt: skip
        return job_id


class List(Page):
    def test_newest_first_with_all_kinds(self) -> None:
        first = tasks.add.enqueue(1)
        second = tasks.native.defer(1)
        dead = self.dead()
        self.assertEqual(self.ids(), newest(dead, second.id, first.id))
        self.assertContains(self.listed(), "ValueError: broken")

    def test_filters(self) -> None:
        mail, other = tasks.send.enqueue("me"), tasks.add.enqueue(1)
        dead = self.dead()
        self.assertEqual(self.ids(queue="mail"), [mail.id])
        self.assertEqual(self.ids(state="dead"), [dead])
        self.assertEqual(self.ids(task=tasks.add.module_path), newest(dead, other.id))
        self.assertEqual(self.ids(task=tasks.add.module_path, state="queued"), [other.id])
        self.assertEqual(self.ids(queue="of nobody"), [])
        page = self.listed(queue="of nobody")
        self.assertContains(page, "?queue=mail")
        self.assertContains(page, "?queue=of+nobody")
        self.assertContains(page, "Clear all filters")

    def test_nonsense_in_the_address(self) -> None:
        for query in ({"state": "nonsense"}, {"after": "nonsense"}, {"x": "1"}, {"id__icontains": "1"}):
            response = self.client.get(reverse(LIST), query)
            self.assertIn(response.status_code, (302, 400), query)

    def test_search_by_id(self) -> None:
        job, dead = tasks.add.enqueue(1), self.dead()
        tasks.add.enqueue(2)
        self.assertEqual(self.ids(q=f" {job.id} "), [job.id])
        self.assertEqual(self.ids(q=dead[-8:]), [dead])
        self.assertEqual((self.ids(q="abcdef"), self.ids(q="%"), self.ids(q=job.id[:20])), ([], [], []))

    def test_pages(self) -> None:
        jobs = newest(*(tasks.add.enqueue(n).id for n in range(120)))
        seen, query = [], "?"
        for _ in range(3):
            response = self.client.get(reverse(LIST) + query)
            seen += [str(job.id) for job in response.context["cl"].result_list]
            query = response.context["cl"].older
        self.assertEqual((seen, query), (jobs, None))
        self.assertContains(response, "newest")

    def test_a_million_jobs_cost_no_more_than_ten_thousand(self) -> None:
        sql(
            "insert into pgqueue.job (id, state, task, args, kwargs) select pgqueue.uuid7(), 'queued', 'shop.other', '[]', '{}'"
            " from generate_series(1, 12000)"
        )
        self.listed()  # the app's settings are read
        with CaptureQueriesContext(
            connection,
        ) as few:
            response = self.listed(state="waiting")
        self.assertContains(response, "0 jobs shown")
        self.assertContains(response, "of 10000 read")
        self.assertEqual(self.ids(state="waiting", after=response.context["cl"].page.next), [])
        said = [query["sql"] for query in few.captured_queries]
        self.assertLess(len(said), 15)
        self.assertEqual([text for text in said if "COUNT(" in text], [])
        self.assertFalse(any('pgqueue"."jobs' in text for text in said), "the ORM asks the view nothing")
        self.assertEqual(sql("select current_setting('enable_seqscan')"), [("on",)])


class One(Page):
    def test_it_shows_what_there_is_to_know(self) -> None:
        dead = self.dead()
        page = self.client.get(self.url(dead))
        for text in (
            "It is dead",
            "given up",
            "ValueError: broken",
            "Traceback of it",
            "here:1",
            "[1]",
            tasks.add.module_path,
        ):
            self.assertContains(page, text)
        self.assertContains(page, 'name="retry"')
        self.assertNotContains(page, 'name="cancel"')

    def test_secrets_are_masked_as_elsewhere(self) -> None:
        job = tasks.send.enqueue("me", "hunter2")
        for page in (self.client.get(self.url(job.id)), self.listed()):
            self.assertNotContains(page, "hunter2")
        self.assertContains(self.client.get(self.url(job.id)), "***")

    def test_what_is_hostile_is_harmless(self) -> None:
        dead = self.dead("<script>alert(1)</script>")
        for page in (self.client.get(self.url(dead)), self.listed()):
            self.assertNotContains(page, "<script>alert")

    def test_none(self) -> None:
        for unknown in (UNKNOWN, "nonsense"):
            page = self.client.get(self.url(unknown), follow=True)
            self.assertContains(page, f"There is no job {unknown}")

    def test_its_buttons(self) -> None:
        job, dead = tasks.add.enqueue(1), self.dead()
        page = self.client.post(self.url(job.id), {"cancel": "Cancel"}, follow=True)
        self.assertContains(page, "It is cancelled")
        self.assertContains(page, "cancelled by ann-view-change in Django&#x27;s admin")
        self.assertContains(page, "What was done to it")
        page = self.client.post(self.url(dead), {"retry": "Retry"}, follow=True)
        self.assertContains(page, "It is queued")


class Actions(Page):
    def test_retry(self) -> None:
        dead, queued = self.dead(), tasks.add.enqueue(1)
        page = self.act("retry", dead, queued.id)
        self.assertContains(page, f"{dead}: retried")
        self.assertContains(page, f"{queued.id}: it is queued or running already")
        self.assertEqual(tasks.add.get_result(dead).status, "READY")
        (entry,) = LogEntry.objects.all()
        self.assertEqual(
            (entry.user.get_username(), entry.object_id, entry.get_change_message()),
            ("ann-view-change", dead, "retried"),
        )

    def test_cancel(self) -> None:
        job, dead = tasks.add.enqueue(1), self.dead()
        page = self.act("cancel", job.id, dead, UNKNOWN)
        self.assertContains(page, f"{job.id}: cancelled")
        self.assertContains(page, f"{dead}: it had ended already")
        self.assertContains(page, f"No job {UNKNOWN}: it never existed")
        (error,) = tasks.add.get_result(job.id).errors
        self.assertEqual(error.traceback, "cancelled by ann-view-change in Django's admin")
        self.assertEqual([entry.object_id for entry in LogEntry.objects.all()], [job.id])
        self.assertEqual([deed.action for deed in self.deeds(job.id)], ["cancel"])

    def deeds(self, job_id: str) -> list[Any]:
        with pgqueue.app.using(connection):
            return list(pgqueue.app.audit(job_id))

    def test_only_what_is_ticked(self) -> None:
        jobs = [tasks.add.enqueue(n) for n in range(2)]
        data = {"action": "cancel", "_selected_action": jobs[0].id, "index": 0, "select_across": "1"}
        self.client.post(reverse(LIST), data)
        self.assertEqual([tasks.add.get_result(job.id).is_finished for job in jobs], [True, False])

    def test_a_unique_key_that_is_taken(self) -> None:
        dead, job = self.dead(), tasks.add.enqueue(1)
        sql("update pgqueue.history set unique_key = 'k' where id = %s", dead)
        sql("update pgqueue.job set unique_key = 'k' where id = %s", job.id)
        self.assertContains(self.act("retry", dead), "another live job has its unique key")


class Rights(Page):
    def test_who_may_view_sees_and_cannot_act(self) -> None:
        self.log_in("view")
        job = tasks.add.enqueue(1)
        page = self.listed()
        self.assertContains(page, job.id)
        self.assertNotContains(page, '<option value="cancel">')
        self.assertNotContains(self.client.get(self.url(job.id)), 'name="cancel"')
        self.assertEqual(self.client.post(self.url(job.id), {"cancel": "Cancel"}).status_code, 403)
        self.act("cancel", job.id)
        self.assertEqual(tasks.add.get_result(job.id).status, "READY")

    def test_who_may_do_nothing_sees_nothing(self) -> None:
        self.log_in()
        job = tasks.add.enqueue(1)
        for url in (reverse(LIST), self.url(job.id)):
            self.assertEqual(self.client.get(url).status_code, 403)
        self.client.logout()
        for url in (reverse(LIST), self.url(job.id)):
            self.assertRedirects(self.client.get(url), f"{reverse('admin:login')}?next={url}")

    def test_nobody_adds_or_deletes(self) -> None:
        User.objects.create_superuser("root", password="secret")
        self.client.login(username="root", password="secret")
        job = tasks.add.enqueue(1)
        self.assertNotContains(self.listed(), "/jobrow/add/")
        self.assertEqual(self.client.get(reverse("admin:pgqueue_jobrow_add")).status_code, 403)
        self.assertEqual(self.client.post(reverse("admin:pgqueue_jobrow_delete", args=[job.id])).status_code, 403)
        self.assertNotContains(self.listed(), "delete_selected")
        self.assertEqual(sorted(JobRow._meta.default_permissions), ["change", "view"])

    def test_its_history_in_the_admin(self) -> None:
        job = tasks.add.enqueue(1)
        self.act("cancel", job.id)
        self.assertContains(self.client.get(reverse("admin:pgqueue_jobrow_history", args=[job.id])), "ann-view-change")
