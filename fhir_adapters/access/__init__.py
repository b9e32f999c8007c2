"""The only part of the adapters that opens a socket, all of it through one door."""
