"""The guide's project works as it is shown."""

from pathlib import Path

import pgqueue
from tests.django.site import Site
from tests.snippets import blocks

PAGE = (Path(pgqueue.__file__).parent / "guides/django.md").read_text("utf-8")
URLS = """
    from django.urls import path

    from shop.views import order

    urlpatterns = [path("order", order)]
"""


def test_the_project_of_the_guide(bare_site: Site) -> None:
    bare_site.set("INSTALLED_APPS.remove('pgqueue.contrib.django')\nROOT_URLCONF = 'site1.urls'")
    bare_site.write("site1/urls.py", URLS)
    shown = [block for block in blocks(PAGE, "python") if block.file]
    assert len(shown) == PAGE.count("```python") == 5
    for block in shown:
        assert block.file
        if block.file == "site1/settings.py":
            bare_site.set(block.code)
        else:
            bare_site.write(block.file, block.code)
    bare_site.manage("migrate")
    assert "Ran 2 tests" in bare_site.manage("test")
    assert "shop.tasks.thank" in bare_site.manage("pgqueue", "tasks")
