"""deploy/gunicorn.conf.py, and after each answer a list of the loaded modules."""

import os
import runpy
import sys
import threading
from pathlib import Path

globals().update(runpy.run_path("deploy/gunicorn.conf.py"))


def post_request(_worker, _request, _environ, _response):
    """Write what this very process has imported so far."""
    listed = Path(os.environ["MODULES_FILE"])
    half = listed.with_suffix(f".{threading.get_ident()}")
    half.write_text("\n".join(sorted(sys.modules)))
    half.replace(listed)  # a reader never sees half a list
