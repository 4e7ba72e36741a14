"""What is told about a plugin's code that cannot be imported: where, and what to do."""

import traceback
from pathlib import Path

_HERE = Path(__file__).parents[1]
_PLUGINS = _HERE / "plugins"


def place_of(error: BaseException) -> str | None:
    """Return "file, line n" of the author's line that the error comes from, None when there is
    none.
    """
    if isinstance(error, SyntaxError) and error.filename is not None:
        return f"{error.filename}, line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if _is_authors(frame.filename)]
    return f"{own[-1].filename}, line {own[-1].lineno}" if own else None


def cure_of(error: BaseException, module: str) -> str:
    """Return what most likely mends an import of the plugin's module that raised the error."""
    if isinstance(error, ModuleNotFoundError):
        return _cure_of_missing(error.name or "", module)
    for kind, sign, cure in _CURES:
        if isinstance(error, kind) and sign in str(error):
            return cure
    return "It was raised while the file was imported: do such work in a task, not at the top."


# By the kind of error and a part of its text; the first that fits is told.
_CURES: tuple[tuple[type[BaseException], str, str], ...] = (
    (
        ImportError,
        "circular import",
        "Two files import each other: move what both need into a third one.",
    ),
    (
        ImportError,
        "",
        "Check the spelling, and the version of the package that it is imported from.",
    ),
    (SyntaxError, "", "Mend the line; 'python -m compileall' shows every such line of a folder."),
    (NameError, "", "Import the name, or define it above the line that uses it."),
    (
        SystemExit,
        "",
        "A module must not end its process: put that below if __name__ == '__main__'.",
    ),
    (
        TypeError,
        "Plugin.__init__",
        'Write: PLUGIN = Plugin(name="...", version="1.0.0", description="...")',
    ),
)


def _cure_of_missing(missing: str, module: str) -> str:
    if missing == module and module.endswith(".plugin"):
        return "Add the file plugin.py with PLUGIN = Plugin(name=..., version=...)."
    package = module.partition(".")[0]
    if missing.partition(".")[0] == package:
        return f"There is no file for '{missing}': check the spelling of the import."
    top = missing.partition(".")[0]
    return f"Install '{top}' into the Python that runs Taskyard, or mend the import."


def _is_authors(filename: str) -> bool:
    path = Path(filename)
    if filename.startswith("<") or "site-packages" in path.parts:
        return False
    return path.is_relative_to(_PLUGINS) or not path.is_relative_to(_HERE)
