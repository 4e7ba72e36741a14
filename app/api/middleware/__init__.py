"""What surrounds every request, as plain ASGI; `app.api.application` says in which order."""
