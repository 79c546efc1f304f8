"""What gunicorn serves, by ``wsgi.py`` in a checkout, and by ``coupon web``."""

import atexit
import sys

from coupon.domain.errors import ConfigurationError
from coupon.runtime.umask import make_files_private
from coupon.web import create_app

APP_LOAD_ERROR = 4  # gunicorn's own: with it the master stops, with any other it starts the worker again, indefinitely

make_files_private()
try:
    app = create_app()
except ConfigurationError as error:
    print(error, file=sys.stderr)
    sys.exit(APP_LOAD_ERROR)
atexit.register(app.extensions["coupon"].close)
