"""The twin's modules for the tests: as for the seed's commands, which run in python_interop/."""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
