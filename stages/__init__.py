"""What each step computes: arrays and values in, values out."""

import os
import warnings

# torch imports a package that warns of its own name, on every machine.
warnings.filterwarnings("ignore", message="The pynvml package is deprecated", category=FutureWarning)
# Its threads wait for each other by spinning. Where something else has a core too, they spin that core away, and a
# training takes nine times as long; with less spinning it takes thrice, and alone as long as before
# (`python -m tests.benchmarks.crowded`). Read when torch is imported.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
