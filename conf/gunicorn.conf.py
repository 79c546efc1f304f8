"""The web side's server: ``gunicorn -c conf/gunicorn.conf.py wsgi:app``. ``coupon web`` starts the same."""

from coupon.web.gunicorn_conf import *  # noqa: F403 - gunicorn reads the names of this module
