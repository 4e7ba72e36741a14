"""A plugin with tables in both databases; its name is not the name of its package."""
