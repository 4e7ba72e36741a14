"""Directives that make an unguarded SQLFluff run code or read files."""

from pathlib import Path

ATTACKS = {
    "core library path": "-- sqlfluff:library_path:{trap}\n"
    "-- sqlfluff:templater:jinja\n{{{{ 1 }}}}\n",
    "jinja library path": "-- sqlfluff:templater:jinja\n"
    "-- sqlfluff:templater:jinja:library_path:{trap}\n{{{{ lib.x }}}}\n",
    "without a space": "--sqlfluff:templater:jinja\n"
    "--sqlfluff:templater:jinja:library_path:{trap}\n",
    "in a block comment": "/*\n-- sqlfluff:library_path:{trap}\n-- sqlfluff:templater:jinja\n*/\n",
    "macros": "-- sqlfluff:templater:jinja\n"
    "-- sqlfluff:templater:jinja:load_macros_from_path:{trap}\n",
    "file read": "-- sqlfluff:templater:jinja\n"
    "-- sqlfluff:templater:jinja:loader_search_path:{trap}\n"
    "{{% include 'secret.sql' %}}\n",
}


def set_trap(tmp_path: Path) -> Path:
    """Make a folder with a module that leaves the mark `PWNED` when anything imports it."""
    folder = tmp_path / "lib"
    folder.mkdir()
    mark = tmp_path / "PWNED"
    for module in ("attack.py", "__init__.py"):
        (folder / module).write_text(f"open({str(mark)!r}, 'w').write('ran')\n")
    (folder / "secret.sql").write_text("SELECT 'the-secret-of-the-host';\n")
    # Another identity than ours can read it, so only the guard is in the way.
    folder.chmod(0o755)
    tmp_path.chmod(0o777)
    return folder
