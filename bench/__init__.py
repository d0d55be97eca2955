"""Measurements of whook: `nox -s bench`, or `python -m bench` in an environment that has whook[bench].

Owns the load, the far ends and the references; measures the real server from outside, as a process apart.
Linux only: CPU time and memory are read from /proc. Must never be imported by whook.
"""
