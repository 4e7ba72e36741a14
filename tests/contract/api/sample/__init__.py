"""A plugin with tasks and routes of its own, for the tests of the API."""
