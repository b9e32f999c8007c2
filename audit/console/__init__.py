"""The auditors' own Flask app: its own process, login and address."""
