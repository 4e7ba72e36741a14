"""The check over a plugin: a good one passes, and each fault is found, placed and has a cure."""

import pytest

from app.testing import PluginFaults, check_plugin, find_faults
from tests.contract.testing.conftest import WritePlugin

MANIFEST = """
    from app import Plugin

    PLUGIN = Plugin(name="{name}", version="1.0.0", description="For a test.")
"""
TASKS = '''
    from app import register_task


    @register_task("{name}.do_work")
    def do_work(size: int = 1) -> int:
        """Do the work."""
        return size
'''
MODELS = """
    from sqlalchemy import String
    from sqlalchemy.orm import Mapped, mapped_column

    from app.db.base import BasePostgres


    class Note(BasePostgres):
        __tablename__ = "{name}_notes"

        id: Mapped[int] = mapped_column(primary_key=True)
        text: Mapped[str] = mapped_column(String(100))
"""
REVISION = """
    import sqlalchemy as sa
    from alembic import op

    revision = "0001_notes"
    down_revision = None


    def upgrade():
        op.create_table(
            "{name}_notes",
            sa.Column("id", sa.Integer, nullable=False),
            sa.Column("text", sa.String(100), nullable=False),
            sa.PrimaryKeyConstraint("id", name="pk_{name}_notes"),
        )


    def downgrade():
        op.drop_table("{name}_notes")
"""
ROUTES = '''
    from fastapi import APIRouter

    router = APIRouter(prefix="/{name}")


    @router.get("/notes/{note_id}")
    async def get_note(note_id: int) -> int:
        """Return a note."""
        return note_id
'''
MIGRATION = "migrations/postgres_main/versions/0001_notes.py"
GOOD = {
    "plugin.py": MANIFEST,
    "tasks.py": TASKS,
    "models.py": MODELS,
    MIGRATION: REVISION,
    "routes.py": ROUTES,
}


def test_a_plugin_that_keeps_the_contract_passes(write_plugin: WritePlugin) -> None:
    check_plugin(write_plugin(GOOD))


def test_routes_may_be_a_package(write_plugin: WritePlugin) -> None:
    files = {name: text for name, text in GOOD.items() if name != "routes.py"}
    routes = {"routes/__init__.py": "from {name}.routes.notes import router as router\n"}
    check_plugin(write_plugin({**files, **routes, "routes/notes.py": GOOD["routes.py"]}))


FAULTS: dict[str, tuple[dict[str, str | None], str, str]] = {
    "no description": (
        {"plugin.py": MANIFEST.replace('description="For a test."', "")},
        "manifest",
        "does not say what it is for",
    ),
    "a version that is none": (
        {"plugin.py": MANIFEST.replace("1.0.0", "first")},
        "manifest",
        "'first' is no version",
    ),
    "a name that is none": (
        {"plugin.py": MANIFEST.replace('name="{name}"', 'name="My Plugin"')},
        "manifest",
        "'My Plugin' is no name",
    ),
    "settings without a default": (
        {
            "settings.py": """
                from pydantic import BaseModel, ConfigDict


                class YardSettings(BaseModel):
                    model_config = ConfigDict(extra="forbid")
                    host: str
            """,
            "plugin.py": MANIFEST.replace(
                "from app import Plugin",
                "from app import Plugin\n    from {name}.settings import YardSettings",
            ).replace('"For a test."', '"For a test.", settings_model=YardSettings'),
        },
        "settings",
        "'host'",
    ),
    "a foreign task name": (
        {"tasks.py": TASKS.replace("{name}.do_work", "other.do_work")},
        "names",
        "does not begin with the plugin's name",
    ),
    "a default of another type": (
        {"tasks.py": TASKS.replace("size: int = 1", "size: int = None")},
        "schemas",
        "default of 'size' is not of its own type",
    ),
    "a task in a file that nobody imports": (
        {"more.py": TASKS.replace("do_work", "do_more")},
        "tasks",
        "'do_more' is declared where the core does not find it",
    ),
    "a task inside a function": (
        {
            "tasks.py": TASKS
            + "\n\n    def make():\n"
            + TASKS.replace("\n    ", "\n        ").replace("do_work", "do_more")
        },
        "tasks",
        "declared where",
    ),
    "another plugin": (
        {"service.py": "from app.plugins.lint.models import LintingJob\n"},
        "imports",
        "imports another plugin (app.plugins.lint.models)",
    ),
    "the web framework in a worker": (
        {"tasks.py": "    import fastapi\n" + TASKS},
        "processes",
        "A worker would load fastapi",
    ),
    "the web framework in another file": (
        {"service.py": "from fastapi import Request\n"},
        "imports",
        "outside of routes.py",
    ),
    "the web framework beside a package of routes": (
        {"routings/__init__.py": "from fastapi import Request\n"},
        "imports",
        "outside of routes.py",
    ),
    "the queue": ({"service.py": "import celery\n"}, "imports", "It imports celery."),
    "a heavy engine in the API": (
        {"engine.py": "import yaml\n", "tasks.py": "    import {name}.engine\n" + TASKS},
        "processes",
        "heavy library behind engine.py",
    ),
    "a model without a migration": (
        {MIGRATION: None},
        "tables",
        "No migration makes {name}_notes",
    ),
    "a migration that differs": (
        {MIGRATION: REVISION.replace("String(100)", "String(99)")},
        "tables",
        "differ from the models",
    ),
    "a migration without a way back": (
        {MIGRATION: REVISION.replace('op.drop_table("{name}_notes")', "pass")},
        "tables",
        "The second upgrade of {name}/postgres_main fails",
    ),
    "a migration that fails": (
        {MIGRATION: REVISION.replace("create_table", "create_tabel")},
        "tables",
        "create_tabel",
    ),
    "routes that are no router": (
        {"routes.py": "router = []\n"},
        "routes",
        "'router' in {name}.routes is not an APIRouter",
    ),
    "a route of the core": (
        {"routes.py": ROUTES.replace('"/{name}"', '"/tasks"').replace("/notes/{note_id}", "/run")
         .replace("router.get", "router.post").replace("note_id: int", "")
         .replace("return note_id", "return 1")},
        "routes",
        "is there already",
    ),
    "a route that anybody may call": (
        {"routes.py": ROUTES.replace("    @router", "    @public\n    @router").replace(
            "import APIRouter", "import APIRouter\n\n    from app.api.door import public")
         .replace('@public\n    @router.get("/notes/{note_id}")',
                  '@router.get("/notes/{note_id}")\n    @public')},
        "routes",
        "a plugin's route cannot be public",
    ),
    "what stops the boot": (
        {"tasks.py": TASKS.replace("size: int = 1", "size")},
        "boot",
        "'size'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FAULTS, ids=lambda case: case.replace(" ", "-"))
def test_a_fault_is_found_with_its_cure(case: str, write_plugin: WritePlugin) -> None:
    changed, rule, told = FAULTS[case]
    merged: dict[str, str | None] = {**GOOD, **changed}
    files = {file: text for file, text in merged.items() if text is not None}
    name = write_plugin(files)
    faults = find_faults(name)
    wanted = told.replace("{name}", name)
    found = [fault for fault in faults if fault.rule == rule and wanted in fault.what]
    assert found, "\n".join(map(str, faults)) or "nothing was found"
    assert all(fault.where and fault.cure for fault in faults)


def test_all_faults_are_told_at_once(write_plugin: WritePlugin) -> None:
    files = {**GOOD, "service.py": "import celery\n"}
    files["plugin.py"] = MANIFEST.replace("1.0.0", "first")
    with pytest.raises(PluginFaults, match="has 2 fault") as caught:
        check_plugin(write_plugin(files))
    assert {fault.rule for fault in caught.value.faults} == {"manifest", "imports"}
    assert "[imports]" in str(caught.value)
