"""One small adapter per peer. They run in an environment of their own (`make bench-setup`) and
import nothing of the product, so that no peer is a dependency of it.
"""
