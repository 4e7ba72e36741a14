"""Figures that anyone can measure again; each script prints ratios, not absolute speeds."""
