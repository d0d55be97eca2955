"""What the services share at run time: directory, bus and stores, each a port with interchangeable twins.

`ports` is what services import; the twins (`memory`, `sql`) are chosen by the composition root alone. This
file imports nothing, so that taking the ports stays cheap.
"""
