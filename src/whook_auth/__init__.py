"""Auth: access tokens, who owns which project name, and the tokens that open tunnels.

The composition root opens it with `whook_auth.service.open_auth` over a store and a bus; the conductor sees
it as the Auth port. It must never import a database, a web framework or another service.
"""
