"""The fault kit: services and product processes of its own, to kill, freeze and cut off."""
