"""Servers that attack, and the real clients that must survive them."""
