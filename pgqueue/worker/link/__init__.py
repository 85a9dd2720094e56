"""What the supervisor and its children share: messages over a socket, and a page of memory."""
