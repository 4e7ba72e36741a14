"""Who is calling: identities, tokens and scopes. Free of HTTP."""
