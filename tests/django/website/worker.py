"""What `pgqueue worker -A tests.django.website.worker` imports."""

import django

django.setup()

from django.utils.module_loading import autodiscover_modules  # noqa: E402

autodiscover_modules("tasks")
