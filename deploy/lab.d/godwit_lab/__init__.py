"""Hosts as namespaces on one machine: the library behind `deploy/lab`."""
