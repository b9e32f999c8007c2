"""deploy/gunicorn.conf.py, and after each answer a list of the loaded modules."""

import os
import runpy
import sys
from pathlib import Path

globals().update(runpy.run_path("deploy/gunicorn.conf.py"))


def post_request(_worker, _request, _environ, _response):
    """Write what this very process has imported so far."""
    Path(os.environ["MODULES_FILE"]).write_text("\n".join(sorted(sys.modules)))
