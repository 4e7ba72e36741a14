"""SQL that makes an unguarded SQLFluff run code, read files, hang or use up the memory."""

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

_JOINS = "JOIN t{0} ON t.x = t{0}.x\n"
_LIFTED = (
    "-- sqlfluff:max_parse_depth:0\n-- sqlfluff:max_parse_nodes:0\n"
    "-- sqlfluff:rust_parser_max_iterations:999999999\n-- sqlfluff:render_variant_limit:99\n"
)

# Each at most 256 KiB, so that it can be the member of an archive as well.
PATHOLOGICAL = {
    "brackets that never close": "SELECT " + "(" * 20_000,
    "brackets, 100,000 deep": "SELECT " + "(" * 100_000 + "1" + ")" * 100_000,
    "brackets with the limits lifted": _LIFTED + "SELECT " + "(" * 5_000 + "1" + ")" * 5_000,
    "a long chain": "SELECT 1 WHERE " + " AND ".join(["a = 1"] * 20_000),
    "a long sum": "SELECT " + " + ".join(["1"] * 30_000),
    "a long list": "SELECT " + ", ".join(["a"] * 60_000) + " FROM b\n",
    "many rows": "INSERT INTO t VALUES " + ", ".join(["(1, 2)"] * 25_000),
    "many statements": "SELECT 1;" * 20_000,
    "many unions": " UNION ALL ".join(["SELECT 1"] * 10_000),
    "many joins": "SELECT * FROM t\n" + "".join(_JOINS.format(n) for n in range(2_000)),
    "many cases": "SELECT " + "CASE WHEN a THEN " * 5_000 + "1",
    "nested functions": "SELECT " + "f(" * 20_000 + "1" + ")" * 20_000,
    "nested queries": "SELECT * FROM (" * 5_000 + "SELECT 1" + ")" * 5_000,
    "garbage": "?!$ " * 40_000,
    "words": "lorem ipsum " * 15_000,
    "an open quote": "SELECT '" + "x y" * 80_000,
    "an open comment": "/* " + "x y" * 80_000,
    "one long comment": "/* " + "x y" * 80_000 + " */",
    "one long line comment": "-- " + "x" * 200_000,
    "one long name": "SELECT " + "x" * 200_000,
    "empty lines": "\n" * 60_000,
    "blanks": " " * 200_000,
    "template loops": "{% for a in range(10000) %}{% for b in range(10000) %}x{% endfor %}"
    "{% endfor %}\n",
    "template bomb": "SELECT {{ 'a' * 10 ** 9 }}, {{ 9 ** 10 ** 8 }}, {{ range(100001) }}\n",
    "template escape": "{{ ''.__class__.__mro__[1].__subclasses__() }}\n",
    "bidirectional text": "SELECT '\u202e' AS \u2067a\u2069, 'e\u0301" + "\u0300" * 10_000 + "'\n",
    "an unknown dialect": "-- sqlfluff:dialect:nope\nSELECT 1\n",
    "directives without end": "-- sqlfluff:rules:" + "LT01," * 20_000 + "\nSELECT 1\n",
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
