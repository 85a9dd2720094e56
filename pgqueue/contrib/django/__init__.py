"""Django: `INSTALLED_APPS = [..., "pgqueue.contrib.django"]`. The default App then uses the project's own database."""
