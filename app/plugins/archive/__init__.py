"""ZIP archives on the storage, expanded by a task."""
