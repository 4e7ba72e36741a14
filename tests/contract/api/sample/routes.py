from fastapi import APIRouter, Depends, UploadFile
from pydantic import BaseModel

from app.api.dependencies import requires
from app.api.routes.runs import get_task_result

router = APIRouter(prefix="/sample")
root_router = APIRouter()
inner = APIRouter(prefix="/inner")


class Wish(BaseModel):
    name: str


@router.post("/wishes", status_code=201, dependencies=[Depends(requires("sample:write"))])
async def make_wish(wish: Wish) -> Wish:
    return wish


@router.post("/small", max_body_size=100)
async def send_little(wish: Wish) -> Wish:
    return wish


@router.post("/files")
async def send_file(file: UploadFile) -> dict[str, int | None]:
    return {"bytes": file.size}


@router.get("/broken")
async def break_down() -> None:
    raise KeyError("canary-5ecret")


@router.get("/away")
async def meet_an_outage() -> None:
    raise ConnectionRefusedError


@inner.get("/{item}/deep")
async def get_deep(item: str) -> dict[str, str]:
    return {"item": item}


router.include_router(inner)
root_router.get("/older/{task_id}/result")(get_task_result)
