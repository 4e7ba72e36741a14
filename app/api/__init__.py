"""How HTTP reaches us: one application, one door for every request, one shape for every error."""
