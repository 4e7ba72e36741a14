from app import Plugin

PLUGIN = Plugin(name="sample", version="1.0.0")
