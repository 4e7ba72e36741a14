from bench.profiling import counts, shares

STAGES = (("driver", r"asyncpg/"), ("ours", r"app/"), ("framework", r"fastapi/"))


def test_a_stack_belongs_to_its_innermost_frame_with_a_stage() -> None:
    lines = [
        "main (app/main.py:1);call (fastapi/routing.py:5);run (app/tasks/x.py:3);len (builtin) 6",
        "main (app/main.py:1);call (fastapi/routing.py:5) 3",
        "main (other.py:1);query (asyncpg/connection.py:9) 1",
        "loop (uvloop) 2",
        "",
    ]
    found = counts(lines, STAGES, "the rest")
    assert found == {"driver": 1, "ours": 6, "framework": 3, "the rest": 2}
    assert list(shares(found).items()) == [
        ("ours", 0.5),
        ("framework", 0.25),
        ("the rest", 1 / 6),
        ("driver", 1 / 12),
    ]


def test_the_first_stage_that_matches_is_taken() -> None:
    stages = (("json", r"strict_json"), ("ours", r"app/"))
    assert counts(["dumps (app/common/strict_json.py:1) 2"], stages, "rest") == {"json": 2}


def test_nothing_sampled_has_no_shares() -> None:
    assert shares(counts([], STAGES, "the rest")) == {}
