"""Gunicorn for the web process; every number can be set from the environment.

Threads, because a hook spends its time waiting for servers and for the worker. No
preload: audit streams, thread pools and connections must be made after the fork. The
access log has no query string and no header in it (they could hold PHI or a token).
"""

import os

bind = os.environ.get("TRIVIUM_BIND", "127.0.0.1:8000")
workers = int(os.environ.get("TRIVIUM_WEB_WORKERS", "1"))
threads = int(os.environ.get("TRIVIUM_WEB_THREADS", "32"))
worker_class = "gthread"
preload_app = False
timeout = 30
graceful_timeout = 15
keepalive = 5
accesslog = os.environ.get("TRIVIUM_ACCESS_LOG") or None
access_log_format = "%(t)s %(m)s %(U)s %(s)s %(B)s %(M)s"
limit_request_line = 2048
limit_request_field_size = 16380
control_socket_disable = True
