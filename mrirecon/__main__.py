"""`python -m mrirecon`, the same as the `mrirecon` command."""

import sys

from mrirecon.cli.main import main

sys.exit(main())
