"""What every whook daemon stands on.

Owns process-wide concerns: supervision, drain, listeners, logs, metrics, settings, ids and tunnel tokens.
The services and the composition root call it. It must never import a service, and this file imports nothing,
so that taking one small module of the package stays cheap.
"""
