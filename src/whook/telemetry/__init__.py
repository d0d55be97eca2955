"""What a process tells others about itself, off by default: error reports and traces on their way out.

Used by the chassis for daemons and by the client. Nothing here runs outside a nursery, and nothing here may
be felt by a webhook: whatever cannot be posted in time is dropped and counted.
"""
