"""What gunicorn serves, by ``wsgi.py`` in a checkout, and by ``coupon web``."""

import atexit
import sys

from coupon.domain.errors import ConfigurationError
from coupon.web import create_app

APP_LOAD_ERROR = 4  # gunicorn's own: with it the master stops, with any other it starts the worker again, indefinitely

try:
    app = create_app()
except ConfigurationError as error:
    print(error, file=sys.stderr)
    sys.exit(APP_LOAD_ERROR)
atexit.register(app.extensions["coupon"].close)
