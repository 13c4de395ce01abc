"""`python -m trtbuild`."""

import sys

from trtbuild.front import main

if __name__ == "__main__":
    sys.exit(main())
