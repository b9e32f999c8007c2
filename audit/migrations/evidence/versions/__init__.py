"""One file per revision; a released file never changes."""
