"""What each step computes: arrays and values in, values out."""

import warnings

# torch imports a package that warns of its own name, on every machine.
warnings.filterwarnings("ignore", message="The pynvml package is deprecated", category=FutureWarning)
