"""gunicorn as a good engineer sets it: two processes of sixteen threads of stock gthread."""

import os

bind = f"127.0.0.1:{os.environ['PORT']}"
workers, worker_class, threads = 2, "gthread", 16
keepalive, timeout, backlog = 15, 60, 2048
accesslog, errorlog = None, "-"
control_socket_disable = True
