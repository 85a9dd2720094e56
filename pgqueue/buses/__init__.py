"""What a relay talks to: one module a bus, each over the client that its extra installs."""
