"""The project of the guide to Django's Tasks works as it is shown."""

from pathlib import Path

import django

import pgqueue
from tests.django.site import Site
from tests.snippets import blocks

PAGE = (Path(pgqueue.__file__).parent / "guides/django-tasks.md").read_text("utf-8")


def test_the_project_of_the_guide(bare_site: Site) -> None:
    bare_site.set("INSTALLED_APPS.remove('pgqueue.contrib.django')")
    shown = [block.code for block in blocks(PAGE, "python")]
    assert len(shown) == 3
    for code in shown:
        name = code.splitlines()[0].removeprefix("# ")
        if django.VERSION < (6, 0):
            code = code.replace("from django.tasks", "from django_tasks")
        if name == "site1/settings.py":
            bare_site.set(code)
        else:
            bare_site.write(name, code)
    bare_site.manage("migrate")
    assert "Ran 2 tests" in bare_site.manage("test")
    assert "shop.tasks.notify" in bare_site.manage("pgqueue", "tasks")
