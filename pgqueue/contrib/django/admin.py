"""The admin's page of jobs: who may view them sees them, who may change them retries and cancels. Nothing is added or deleted."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.module_loading import autodiscover_modules

import pgqueue
from pgqueue import App
from pgqueue.codec import redact
from pgqueue.contrib.django.models import JobRow
from pgqueue.contrib.django.project import PROJECT
from pgqueue.errors import DuplicateJob, InvalidOption, JobNotFound
from pgqueue.job import Snapshot, State
from pgqueue.ops.listing import Page
from pgqueue.terminal import one_line

OLDER_THAN = "after"  # the parameter by which a page of older jobs follows
SHOWN_TEXT = 100  # characters of a result or an error in the list
MAX_QUEUES = 100


@contextlib.contextmanager
def connected() -> Iterator[App]:
    """The App, on Django's connection to the jobs."""
    with pgqueue.app.using(PROJECT.connection):
        yield pgqueue.app


@contextlib.contextmanager
def in_index_order() -> Iterator[App]:
    """As `connected`, for lists, which walk along indexes. The settings go as they came, by a rollback; see db.in_index_order."""
    with transaction.atomic(using=PROJECT.connection.alias), connected() as app:
        app.run(app.queries.in_index_order())
        yield app
        transaction.set_rollback(True, using=PROJECT.connection.alias)


def masked(job: Snapshot) -> Snapshot:
    """As people may see it."""
    return redact.shown(job, secret_names=pgqueue.app.config.secret_names)


class NameFilter(admin.SimpleListFilter):
    """By a name. The list heeds it; there is no query to be filtered."""

    def names(self) -> list[str]:
        """Those to choose from, as far as they are known at little cost."""
        raise NotImplementedError

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """And the one that is chosen, known or not."""
        chosen = self.value()
        return [(name, name) for name in sorted({*self.names(), *([chosen] if chosen else [])})]

    def queryset(self, request: HttpRequest, queryset: Any) -> None:
        """Unchanged."""


class StateFilter(NameFilter):
    """By the state of a job."""

    title = parameter_name = "state"

    def names(self) -> list[str]:
        return list(State)


class QueueFilter(NameFilter):
    """By its queue: those with runnable or running jobs, paused ones, and those that workers serve."""

    title = parameter_name = "queue"

    def names(self) -> list[str]:
        with connected() as app:
            return [row.queue for row in app.run(app.queries.stats_queues(queue_limit=MAX_QUEUES, count_limit=1))]


class TaskFilter(NameFilter):
    """By its task: those of this project."""

    title = parameter_name = "task"

    def names(self) -> list[str]:
        autodiscover_modules("tasks")
        return list(pgqueue.app.tasks)


class JobList(ChangeList):
    """A page of jobs, newest first: one look at 10,000 jobs at most, and a link to older ones. Nothing is counted."""

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> Any:
        """Of nothing: what is shown is read by `get_results`, and actions take the ids that are ticked."""
        for params in (self.params, self.filter_params):
            params.pop(OLDER_THAN, None)
        self.filter_specs, self.has_filters, rest, _, self.has_active_filters = self.get_filters(request)
        if rest:
            raise IncorrectLookupParameters
        self.clear_all_filters_qs = self.get_query_string(remove=list(self.get_filters_params()))
        return self.root_queryset.none()

    def get_results(self, request: HttpRequest) -> None:
        """Read the page."""
        page = self._found(self.query.strip()) if self.query else self._wanted(request.GET.get(OLDER_THAN))
        self.result_list: Any = [JobRow.of(masked(job)) for job in page]
        self.result_count = self.full_result_count = len(page)
        self.page = page
        self.older = page.next and self.get_query_string({OLDER_THAN: page.next})
        self.is_first = OLDER_THAN not in request.GET
        self.show_full_result_count = self.can_show_all = self.multi_page = False
        self.show_admin_actions = bool(page)
        self.paginator: Any = Paginator(self.result_list, self.list_per_page)

    def _wanted(self, after: str | None) -> Page:
        chosen: Any = {spec.parameter_name: spec.value() for spec in self.filter_specs if isinstance(spec, NameFilter)}
        try:
            with in_index_order() as app:
                return app.jobs(**chosen, after=after, limit=self.list_per_page)
        except InvalidOption as error:
            raise IncorrectLookupParameters(error) from error

    def _found(self, ending: str) -> Page:
        try:
            with connected() as app:
                return Page([app.snapshot(app.find(ending))])
        except JobNotFound:
            return Page()


@admin.register(JobRow)
class JobsAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Jobs in the admin."""

    list_display = ("id", "state", "task", "queue", "attempt", "created_at", "outcome")
    list_filter = (StateFilter, QueueFilter, TaskFilter)
    search_fields = ("id",)
    search_help_text = "The id of a job; of one that runs or failed lately its last 6 to 12 digits."
    sortable_by = ()
    list_per_page = 50
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    actions = ("retry", "cancel")

    # -- rights --

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody: jobs are deferred by programs."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody: a job is cancelled, and its end is kept for as long as the settings say."""
        return False

    # -- the list --

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return JobList

    @admin.display(description="result or error")
    def outcome(self, job: JobRow) -> str:
        """The beginning of it."""
        text = job.error or job.result
        return "-" if text is None else one_line(text, at_most=SHOWN_TEXT)

    # -- one job --

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> JobRow | None:
        """By the statement that finds a job in either table."""
        with contextlib.suppress(JobNotFound), connected() as app:
            return JobRow.of(masked(app.snapshot(object_id)))
        return None

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        """Show a job; its buttons post `retry` or `cancel`."""
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        job = self.get_object(request, object_id)
        if job is None:
            self.message_user(request, f"There is no job {object_id}.", messages.WARNING)
            return HttpResponseRedirect(reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist"))
        if request.method == "POST":
            if not self.has_change_permission(request):
                raise PermissionDenied
            self._order(request, [str(job.id)], _cancel if "cancel" in request.POST else _retry)
            return HttpResponseRedirect(request.get_full_path())
        shown = {**self.admin_site.each_context(request), **self._shown(str(job.id)), **(extra_context or {})}
        return TemplateResponse(
            request, "admin/pgqueue/jobrow/change_form.html",
            {
                **shown, "opts": self.opts, "original": job, "title": str(job), "ended": State(job.state).ended,
                "may_change": self.has_change_permission(request),
            },
        )  # fmt: skip

    def _shown(self, job_id: str) -> dict[str, Any]:
        with connected() as app:
            job = masked(app.snapshot(job_id))
            return {
                "columns": [(name, value) for name, value in job._asdict().items() if value is not None],
                "why": app.why(job_id), "attempts": app.attempts(job_id), "deeds": app.audit(job_id),
            }  # fmt: skip

    # -- what one may do with them --

    @admin.action(description="Retry: run ended jobs again, scheduled ones now", permissions=["change"])
    def retry(self, request: HttpRequest, queryset: Any) -> None:
        """See App.retry."""
        self._order(request, request.POST.getlist(ACTION_CHECKBOX_NAME), _retry)

    @admin.action(description="Cancel: at once, or ask the task to stop if it runs", permissions=["change"])
    def cancel(self, request: HttpRequest, queryset: Any) -> None:
        """See App.cancel."""
        self._order(request, request.POST.getlist(ACTION_CHECKBOX_NAME), _cancel)

    def _order(self, request: HttpRequest, ids: list[str], order: Callable[[App, str, str], str]) -> None:
        """Do it with each, note who has done it in Django's log, and tell what became of it."""
        user = one_line(request.user.get_username(), at_most=SHOWN_TEXT)
        for job_id in ids:
            try:
                with transaction.atomic(using=PROJECT.connection.alias), connected() as app:
                    done = order(app, job_id, user)
                    job = JobRow.of(app.snapshot(job_id))
            except (DuplicateJob, JobNotFound) as error:
                self.message_user(request, str(error), messages.ERROR)
                continue
            if done.startswith(DONE):
                self.log_change(request, job, done)
            self.message_user(
                request, f"{job}: {done}", messages.SUCCESS if done.startswith(DONE) else messages.WARNING
            )


DONE = ("retried", "cancelled")


def _retry(app: App, job_id: str, user: str) -> str:
    return "retried" if app.retry(job_id) else "it is queued or running already"


def _cancel(app: App, job_id: str, user: str) -> str:
    cancelled = app.cancel(job_id, reason=f"cancelled by {user} in Django's admin")
    return "cancelled, or asked to stop if it is running" if cancelled else "it had ended already"
