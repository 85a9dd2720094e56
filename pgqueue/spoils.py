"""Which exceptions mean that the process they were raised in is of no more use. Known by name: nothing is imported for it.

After some errors a process lives on and fails at everything: a CUDA context that met a failed assert on the device refuses
every later call, and memory of the device that was taken stays with the process that took it.
"""

import re
import sys
from collections.abc import Iterable, Iterator

from pgqueue.errors import InvalidOption, LeaseLost
from pgqueue.retry import Cancel, Retry, Snooze

Spoil = type[BaseException] | str

MAX_LOOKED_AT = 2_000  # characters of an error that are looked at
FULL_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")
# What an error of a device says when it is the last: its memory is used up, or its context is lost.
_DEVICE = r"^RESOURCE_EXHAUSTED|CUDA_ERROR_|cudaError|hipError"
# Of RuntimeErrors only those with such a text: what torch raised before it had classes of its own.
_TORCH = r"^(CUDA|HIP|XPU|NPU) (error|out of memory)|^cuDNN error: CUDNN_STATUS_(EXECUTION_FAILED|INTERNAL_ERROR|MAPPING_ERROR)"

MEMORY = "builtins.MemoryError"
KNOWN: dict[str, str] = {
    MEMORY: "",
    # torch/csrc/Exceptions.cpp names them so: AcceleratorError since 2.8, OutOfMemoryError in torch.cuda before 2.5.
    "torch.AcceleratorError": "",
    "torch.OutOfMemoryError": "",
    "torch.cuda.OutOfMemoryError": "",
    "builtins.RuntimeError": _TORCH,
    # cupy: cupy_backends/cuda/api/{runtime,driver}.pyx, before version 8 in cupy.cuda; its OutOfMemoryError is a MemoryError.
    "cupy_backends.cuda.api.runtime.CUDARuntimeError": "",
    "cupy_backends.cuda.api.driver.CUDADriverError": "",
    "cupy.cuda.runtime.CUDARuntimeError": "",
    "cupy.cuda.driver.CUDADriverError": "",
    "cupy.cuda.memory.OutOfMemoryError": "",
    # jaxlib/jax.cc; jax.errors exports it. Also wrong arguments and failed callbacks are told by this class.
    "jaxlib.xla_extension.XlaRuntimeError": _DEVICE,
    "jaxlib._jax.XlaRuntimeError": _DEVICE,
    "jaxlib._jax.JaxRuntimeError": _DEVICE,
    "jax.errors.JaxRuntimeError": _DEVICE,
    # numba/cuda/cudadrv/driver.py
    "numba.cuda.cudadrv.driver.CudaAPIError": "",
    # pyopencl/src/wrap_cl_part_1.cpp: a LogicError is also any code below -30, as NVIDIA's -9999 for a lost context; a
    # RuntimeError also a program that does not compile.
    "pyopencl._cl.MemoryError": "",
    "pyopencl._cl.LogicError": r"-9999|INVALID_CONTEXT|INVALID_COMMAND_QUEUE",
    "pyopencl._cl.RuntimeError": r"OUT_OF_RESOURCES|OUT_OF_HOST_MEMORY",
}
# They end an attempt on purpose; what they were raised from may tell more.
_MEANT = (Retry, Snooze, Cancel, LeaseLost)


def check_spoils(spoils: Iterable[Spoil], *, where: str) -> frozenset[str]:
    """The full names of the exceptions given; raises InvalidOption."""
    example = "as in spoils=[OSError, 'torch.AcceleratorError']"
    if isinstance(spoils, str | type) or not isinstance(spoils, Iterable):
        raise InvalidOption(f"{where}: spoils takes a list of exceptions, {example}")
    return frozenset(
        _name_of(spoil, f"{where}: spoils takes exception classes or their full names, {example}") for spoil in spoils
    )


def _name_of(spoil: object, problem: str) -> str:
    if isinstance(spoil, type) and issubclass(spoil, BaseException):
        return _full_name(spoil)
    if isinstance(spoil, str) and FULL_NAME.fullmatch(spoil):
        return spoil
    raise InvalidOption(f"{problem}; not {spoil!r}")


def culprit(error: BaseException, names: frozenset[str] = frozenset()) -> str | None:
    """The name of what spoils the process, in the error or in what it was raised from; None: nothing does.

    The interpreter is asked for classes, not the errors, which may say of themselves what they like.
    Also where `raise ... from None` hides it: that is about what people read, and the process is none the better.
    """
    for each in chain(error):
        if issubclass(type(each), _MEANT):
            continue
        for cls in type(each).__mro__:
            name = _full_name(cls)
            if name in names or (name in KNOWN and _says(each, KNOWN[name], alone=cls is type(each))):
                return _full_name(type(each))
        if any(issubclass(type(each), _loaded(name)) for name in names):
            return _full_name(type(each))
    return None


def _says(error: BaseException, pattern: str, *, alone: bool) -> bool:
    """Whether the text fits. A pattern speaks of the class itself: those derived from RuntimeError are legion."""
    if not pattern:
        return True
    try:
        return alone and re.search(pattern, str(error)[:MAX_LOOKED_AT]) is not None
    except Exception:  # a text that cannot be had
        return False


def _loaded(name: str) -> tuple[type, ...]:
    """The class of that name, which may be known to others by another one; none, if its module was never imported."""
    module, _, attribute = name.rpartition(".")
    found = getattr(sys.modules.get(module), attribute, None)
    return (found,) if isinstance(found, type) else ()


def _full_name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def chain(error: BaseException) -> Iterator[BaseException]:
    """The error, what it was raised from or during, and the members of groups, each once."""
    waiting, seen = [error], set()
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        members = each.exceptions if issubclass(type(each), BaseExceptionGroup) else ()  # type: ignore[attr-defined]
        waiting += [cause for cause in (*members, each.__cause__, each.__context__) if cause is not None]
