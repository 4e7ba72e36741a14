"""A plugin's routes: behind authentication that it can narrow and never remove."""

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest
from fastapi import APIRouter, FastAPI
from starlette.responses import PlainTextResponse
from starlette.staticfiles import StaticFiles

from app.api.door import DoorRoute, public
from app.api.mounting import mount_plugin
from app.config.plugins import LoadedPlugin, Plugin, PluginLoadError
from tests.contract.api.harness import Api
from tests.contract.api.test_every_route import assert_problem

MULTIPART = "multipart/form-data; boundary=x"
FIELD = b'--x\r\nContent-Disposition: form-data; name="f"\r\n\r\n'


async def answer() -> dict[str, str]:
    return {}


@pytest.fixture
def router(monkeypatch: pytest.MonkeyPatch) -> APIRouter:
    """The router of a plugin package that is there for the length of a test."""
    package, routes = ModuleType("passing_plugin"), ModuleType("passing_plugin.routes")
    package.__path__ = []
    routes.__spec__ = ModuleSpec("passing_plugin.routes", None)
    routes.router = APIRouter()  # type: ignore[attr-defined]  # a module made by hand
    monkeypatch.setitem(sys.modules, "passing_plugin", package)
    monkeypatch.setitem(sys.modules, "passing_plugin.routes", routes)
    made: APIRouter = routes.router
    return made


def _mount() -> FastAPI:
    app = FastAPI(openapi_url=None)
    app.state.literal_paths = set()
    mount_plugin(app, LoadedPlugin(Plugin(name="passing", version="1"), "passing_plugin", True))
    return app


def test_routes_of_nested_routers_get_their_full_path_and_the_door(router: APIRouter) -> None:
    inner = APIRouter(prefix="/inner", tags=["inner"])
    inner.get("/{item}", status_code=203)(answer)
    router.include_router(inner, prefix="/outer")
    (route,) = _mount().routes
    assert isinstance(route, DoorRoute)
    assert route.path == "/api/v1/outer/inner/{item}"
    assert (route.needs_token, route.status_code, route.tags) == (True, 203, ["inner"])


def test_a_public_route_is_refused(router: APIRouter) -> None:
    async def open_to_all() -> None: ...

    router.get("/open")(public(open_to_all))
    with pytest.raises(PluginLoadError, match=r"'passing' cannot mount /open.*public"):
        _mount()


def test_what_cannot_be_authenticated_is_refused(router: APIRouter) -> None:
    router.mount("/files", StaticFiles(directory="."))
    with pytest.raises(PluginLoadError, match="'passing' cannot mount /files"):
        _mount()


def test_a_plain_starlette_route_is_refused(router: APIRouter) -> None:
    router.add_route("/plain", lambda request: PlainTextResponse("x"))
    with pytest.raises(PluginLoadError, match="'passing' cannot mount /plain"):
        _mount()


def test_a_second_route_at_one_place_is_refused(router: APIRouter) -> None:
    router.get("/twice")(answer)
    router.get("/twice")(answer)
    with pytest.raises(PluginLoadError, match="GET /api/v1/twice is there already"):
        _mount()


def test_a_router_of_another_kind_is_refused(
    router: APIRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["passing_plugin.routes"], "router", "no router")
    with pytest.raises(PluginLoadError, match=r"'router' in passing_plugin\.routes"):
        _mount()


def test_a_size_limit_of_the_route_answers_as_a_problem_document(api: Api) -> None:
    answer = api.post("/api/v1/sample/small", json={"name": "x" * 200})
    assert_problem(answer, 413)
    assert api.post("/api/v1/sample/small", json={"name": "x"}).status_code == 200


class TestSample:
    def test_a_plain_body_model_is_read_strictly(self, api: Api) -> None:
        path = "/api/v1/sample/wishes"
        assert api.post(path, "admin", json={"name": "a"}).status_code == 201
        headers = {"Content-Type": "application/json"}
        assert_problem(api.post(path, "admin", content=b'{"name": NaN}', headers=headers), 422)
        assert_problem(
            api.post(path, "admin", content=b'{"name": "a", "name": "b"}', headers=headers), 400
        )
        assert_problem(api.post(path, "admin", content=b'{"name": "a"}'), 415)

    def test_a_scope_narrows(self, api: Api) -> None:
        refused = api.post("/api/v1/sample/wishes", json={"name": "a"})
        assert_problem(refused, 403)
        assert "sample:write" in refused.json()["detail"]

    def test_an_upload_passes_the_door(self, api: Api) -> None:
        sent = api.post("/api/v1/sample/files", files={"file": ("a.sql", b"SELECT 1")})
        assert sent.json() == {"bytes": 8}
        assert_problem(api.post("/api/v1/sample/files", json={}), 415)
        no_file = api.post("/api/v1/sample/files", files={"other": ("a.sql", b"x")})
        assert_problem(no_file, 422)

    @pytest.mark.parametrize(
        ("content_type", "body"),
        [
            ("multipart/form-data", b"x"),
            (MULTIPART, b"--x\r\nnonsense"),
            (MULTIPART, (FIELD + b"\r\n") * 1100 + b"--x--"),
            (MULTIPART, FIELD + b"a" * 2_000_000 + b"\r\n--x--"),
        ],
        ids=["no boundary", "truncated", "many parts", "large field"],
    )
    def test_a_broken_upload_is_refused(self, api: Api, content_type: str, body: bytes) -> None:
        answer = api.post(
            "/api/v1/sample/files", content=body, headers={"Content-Type": content_type}
        )
        assert answer.status_code in (400, 422)
        assert_problem(answer, answer.status_code)
