"""What the product is about: the registry and the life of a run. Knows neither HTTP nor Celery."""
