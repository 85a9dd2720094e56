"""The command line with the fault that a test wants: what a WorkerProcess starts."""

from pgqueue.cli import main
from pgqueue.testing.worker_app import harm_supervisor, told

if __name__ == "__main__":
    fault = told().fault
    if fault is not None:
        harm_supervisor(fault)
    main()
