"""The command line, as `python -m comfyui_stylegan_fusion`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
