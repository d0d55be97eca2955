"""The relay: holds tunnels and switches frames between them and the conductors' trunks.

It never parses HTTP and never asks the directory, the bus or auth on a webhook's way. The way in is
`whook_relay.service`.
"""
