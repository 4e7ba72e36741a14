from app.config.plugins import Plugin

PLUGIN = Plugin(name="notes", version="1.0.0")
