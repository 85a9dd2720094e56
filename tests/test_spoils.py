"""A process that an error has made useless is replaced, and only the job that did it is charged."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import psycopg
import pytest

from pgqueue import App, Cancel, ConfigError, InvalidOption, JobDead, Snooze
from pgqueue.spoils import check_spoils, culprit
from pgqueue.task import AnyTask
from tests import hostile_tasks as tasks
from tests.conftest import Worker, eventually
from tests.hostile_tasks import named

Start = Callable[..., Worker]


def raised(make: Callable[[], None]) -> BaseException:
    try:
        make()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("torch.AcceleratorError", "CUDA error: device-side assert triggered"),
        ("torch.OutOfMemoryError", "CUDA out of memory. Tried to allocate 20.00 GiB"),
        ("torch.cuda.OutOfMemoryError", "CUDA out of memory. Tried to allocate 20.00 GiB"),
        ("builtins.RuntimeError", "CUDA error: device-side assert triggered"),
        ("builtins.RuntimeError", "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`"),
        ("builtins.RuntimeError", "CUDA out of memory. Tried to allocate 20.00 GiB"),
        ("builtins.RuntimeError", "HIP error: an illegal memory access was encountered"),
        ("builtins.RuntimeError", "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
        ("builtins.MemoryError", ""),
        ("cupy.cuda.memory.OutOfMemoryError", "Out of memory allocating 512 bytes"),
        ("cupy.cuda.runtime.CUDARuntimeError", "cudaErrorIllegalAddress: an illegal memory access was encountered"),
        ("cupy_backends.cuda.api.runtime.CUDARuntimeError", "cudaErrorIllegalAddress: an illegal memory access"),
        ("cupy_backends.cuda.api.driver.CUDADriverError", "CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access"),
        ("jaxlib.xla_extension.XlaRuntimeError", "RESOURCE_EXHAUSTED: Out of memory allocating 13307782216 bytes."),
        ("jaxlib._jax.JaxRuntimeError", "INTERNAL: CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access"),
        ("jax.errors.JaxRuntimeError", "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1 bytes"),
        ("numba.cuda.cudadrv.driver.CudaAPIError", "[700] Call to cuMemcpyDtoH results in UNKNOWN_CUDA_ERROR"),
        ("pyopencl._cl.MemoryError", "clEnqueueNDRangeKernel failed: MEM_OBJECT_ALLOCATION_FAILURE"),
        ("pyopencl._cl.RuntimeError", "clFinish failed: OUT_OF_RESOURCES"),
        ("pyopencl._cl.LogicError", "clWaitForEvents failed: <unknown error -9999>"),
    ],
)
def test_errors_of_devices_are_known_by_name(name: str, text: str) -> None:
    classes = {"builtins.RuntimeError": RuntimeError, "builtins.MemoryError": MemoryError}
    error = (classes.get(name) or named(name))(text)
    assert culprit(error) == name
    derived = type("Mine", (type(error),), {"__module__": "shop"})
    if name not in ("builtins.RuntimeError",) and not name.startswith(("jax", "pyopencl._cl.R", "pyopencl._cl.L")):
        assert culprit(derived(text)) == "shop.Mine"


@pytest.mark.parametrize(
    "error",
    [
        ValueError("CUDA error: device-side assert triggered"),
        RuntimeError("no CUDA error: all is well"),
        NotImplementedError("CUDA error: not here"),
        named("jaxlib._jax.JaxRuntimeError")("INVALID_ARGUMENT: shapes do not match"),
        named("pyopencl._cl.RuntimeError")("clBuildProgram failed: BUILD_PROGRAM_FAILURE"),
        named("pyopencl._cl.LogicError")("clCreateBuffer failed: INVALID_BUFFER_SIZE"),
        named("mytorch.AcceleratorError")("CUDA error"),
        ExceptionGroup("many", [ValueError("one")]),
        tasks.Unprintable(),
        SystemExit(1),
    ],
    ids=lambda error: f"{type(error).__module__}.{type(error).__qualname__}",
)
def test_other_errors_spoil_nothing(error: BaseException) -> None:
    assert culprit(error) is None


def test_what_an_error_was_raised_from_counts_too() -> None:
    def wrapped(*, hide: bool) -> None:
        try:
            raise tasks.DeviceError("CUDA error")
        except tasks.DeviceError as error:
            raise ValueError("cannot render") from (None if hide else error)

    for hide in False, True:
        assert culprit(raised(partial(wrapped, hide=hide))) == "torch.AcceleratorError"
    group = ExceptionGroup("outer", [ValueError(), ExceptionGroup("inner", [tasks.DeviceError("CUDA error")])])
    assert culprit(group) == "torch.AcceleratorError"
    assert culprit(tasks.cyclic_cause()) is None


def test_own_exceptions_are_given_as_classes_or_by_name_and_also_by_another_name() -> None:
    names = check_spoils([OSError, "tests.hostile_tasks.LicenceLost"], where="App()")
    assert culprit(FileNotFoundError(), names) == "builtins.FileNotFoundError"
    assert culprit(tasks.LicenceLost(), names) == "tests.hostile_tasks.LicenceLost"
    # psycopg's own home for it is psycopg.errors
    assert culprit(psycopg.OperationalError(), check_spoils(["psycopg.OperationalError"], where="")) is not None
    assert culprit(ValueError(), check_spoils(["never.imported.Error"], where="")) is None
    for meant in Snooze(1), Cancel("why"):
        assert culprit(meant, check_spoils([Exception], where="")) is None


@pytest.mark.parametrize("spoils", [ValueError, "torch.AcceleratorError", ["ValueError"], [3], [int], ["a b.c"], 7])
def test_what_cannot_be_meant_is_refused_at_import(spoils: Any) -> None:
    with pytest.raises(
        InvalidOption, match=r"^App\(\): spoils takes .*as in spoils=\[OSError, 'torch.AcceleratorError'\]"
    ):
        App(spoils=spoils)
    with pytest.raises(ConfigError, match=r"^@task shop\.f: spoils takes "):
        App().task(name="shop.f", spoils=spoils)(lambda: None)


# -- in a worker --


@pytest.fixture
def start(start_worker: Start, task_app: App) -> Start:
    """A worker that knows the hostile tasks."""
    return lambda *options, **settings: start_worker(*options, app="tests.hostile_tasks", **settings)


def charged(conn: psycopg.Connection) -> list[str]:
    return [row[0] for row in conn.execute("select job_id::text from pgqueue.attempt order by failed_at")]


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("device", "was spoiled by torch.AcceleratorError in job"),
        ("wrapped", "was spoiled by torch.AcceleratorError in job"),
        ("own", "was spoiled by tests.hostile_tasks.LicenceLost in job"),
        ("asked", "holds 85 GB of the device (job"),
        ("snooze", "was spoiled by torch.AcceleratorError in job"),
    ],
)
def test_a_spoiled_process_is_replaced_and_later_jobs_know_nothing_of_it(
    start: Start, app: App, conn: psycopg.Connection, tmp_path: Any, how: str, why: str
) -> None:
    worker = start("-c", "1").ready()
    (child,) = worker.children()
    with app.using(conn), conn.transaction():  # so that they come in one claim
        job = tasks.spoil_with.options(headers={"marker": str(tmp_path / "marker")}).defer(how)
        later = [tasks.use_device.defer(0) for _ in range(5)]
    pids = {job.result(60) for job in later}
    assert child not in pids and len(pids) == 1
    assert f"child 0 {why}" in worker.said("and is replaced") and " WARNING " in worker.said("and is replaced")
    if how in ("asked", "snooze"):
        assert job.result(30)
    else:
        with pytest.raises(JobDead):
            job.result(30)
    assert charged(conn) == ([] if how in ("asked", "snooze") else [job.id])


BESIDE: dict[str, tuple[AnyTask, AnyTask]] = {
    "threads": (tasks.use_device, tasks.spoil_with),
    "async": (tasks.use_device_async, tasks.spoil_async),
}


@pytest.mark.parametrize("kind", BESIDE)
def test_jobs_beside_the_one_that_spoiled_the_process_are_not_charged(
    start: Start, conn: psycopg.Connection, kind: str
) -> None:
    worker = start("-c", "1", "--threads", "3").ready()
    (child,) = worker.children()
    beside, spoil = BESIDE[kind]
    neighbours = [beside.defer(2.0) for _ in range(2)]
    eventually(
        lambda: conn.execute("select count(*) from pgqueue.job where state = 'running'").fetchone() == (2,),
        what="they run",
    )
    job = spoil.defer("device") if kind == "threads" else spoil.defer(0.1)
    with pytest.raises(JobDead, match="device-side assert"):
        job.result(30)
    assert child not in {neighbour.result(60) for neighbour in neighbours}
    assert charged(conn) == [job.id] and {job.snapshot().attempt for job in neighbours} == {1}
    assert "no attempt is charged: AcceleratorError: CUDA error" in worker.said("failed in a process that job")


def test_jobs_behind_the_one_that_spoiled_the_process_are_not_charged(
    start: Start, app: App, conn: psycopg.Connection
) -> None:
    start("-c", "1").ready()
    for job in tasks.use_device.defer_many([(0,)] * 50):
        job.result(30)  # now it is known to be short, so that a frame carries many
    with app.using(conn), conn.transaction():
        jobs = [tasks.use_device.defer(seconds) for seconds in (0, 0, -1, *[0] * 30)]
    eventually(lambda: {job.state for job in jobs} <= {"succeeded", "dead"}, what="all have ended")
    assert charged(conn) == [jobs[2].id] and [job.state == "dead" for job in jobs].count(True) == 1


def test_children_that_are_spoiled_one_after_the_other_are_started_ever_more_slowly(
    start: Start, conn: psycopg.Connection
) -> None:
    worker = start("-c", "1").ready()
    for _ in range(4):
        tasks.spoil_with.defer("device")
    eventually(lambda: len(charged(conn)) == 4, what="all have failed")
    gaps = [
        float(gap) for (gap,) in conn.execute(
            "select extract(epoch from failed_at - lag(failed_at) over (order by failed_at)) from pgqueue.attempt "
            "order by failed_at offset 1"
        )
    ]  # fmt: skip
    assert gaps[1] > 1 and gaps[2] > 2  # the pauses of a second and two
    began = time.monotonic()
    assert worker.stop() == 0 and time.monotonic() - began < 10
