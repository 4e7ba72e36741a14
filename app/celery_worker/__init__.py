"""Celery over RabbitMQ: the one room that knows Celery, Kombu and AMQP."""
