"""The process that runs user code: it imports the app, and has no connection to the queue but what an atomic task writes by."""
