"""What gunicorn serves: ``gunicorn -c conf/gunicorn.conf.py wsgi:app``. ``coupon web`` serves the same."""

from coupon.web.wsgi import app

__all__ = ["app"]
