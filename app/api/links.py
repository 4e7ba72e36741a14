"""Links are paths, never made from the Host header, which the caller chooses."""

from fastapi import Request

from app.api.mounting import API_PREFIX


def path_to(request: Request, place: str) -> str:
    """Return the path of a resource below the API's prefix, as seen through a proxy's root path."""
    root: str = request.scope.get("root_path", "")
    return f"{root}{API_PREFIX}/{place}"


def batch_links(request: Request, batch_id: str) -> dict[str, str]:
    """Return the paths of a batch and of its runs."""
    own = path_to(request, f"batches/{batch_id}")
    return {
        "self": own,
        "tasks": f"{path_to(request, 'tasks')}?batch_id={batch_id}",
        "cancel": f"{own}/cancel",
    }


def run_links(request: Request, task_id: str) -> dict[str, str]:
    """Return the paths of a run and of what belongs to it."""
    own = path_to(request, f"tasks/{task_id}")
    return {
        "self": own,
        "result": f"{own}/result",
        "events": f"{own}/events",
        "logs": f"{own}/logs",
        "stream": f"{own}/stream",
        "children": path_to(request, f"tasks?parent_id={task_id}"),
        "cancel": f"{own}/cancel",
        "rerun": f"{own}/rerun",
        "explain": f"{own}/explain",
    }
