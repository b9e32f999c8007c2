"""Ways to fuse three modalities, all behind the contract of ``contract.py``."""
