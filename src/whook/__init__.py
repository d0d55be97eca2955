"""The shared parts of whook: the tunnel wire, its driver, HTTP/1.1, and what every daemon stands on."""
