"""`python -m optimize_graph` is the command."""

import sys

from .cli import main

sys.exit(main())
