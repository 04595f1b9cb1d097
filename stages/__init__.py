"""What each stage computes: arrays and values in, values out.

A stage of `dvc.yaml` has two halves. Its module below `pipeline/stage_io` loads the inputs, calls one function from
here and saves what it returns. The function here takes NumPy arrays (or `Rows`, which are read lazily), a frozen
parameter section, a seed and a device, and returns values such as `Fitted` or `ScoreMap` (`types.py`). It reads no
parameter file, no environment variable and no global state, and the same arguments give the same bytes. Only `download`
reads and writes images itself, since files are its subject. Nothing here knows of DVC, Prefect or the command line.

| room          | stages of dvc.yaml           | what it does                                                          |
| ------------- | ---------------------------- | --------------------------------------------------------------------- |
| `download`    | `download`                   | lists, checks, copies and splits the images; writes the manifest      |
| `audit`       | `audit`                      | finds near-duplicates across splits, and suspects among good images   |
| `backbone`    | `pretrain`, `features`       | builds, trains and applies the frozen network behind tokens and       |
|               |                              | attention; also the ImageNet CNN that detectors read                  |
| `denoise`     | `denoise`, `train_denoiser`, | removes positional artifacts from tokens: DVT step 1 image by image,  |
|               | `clean_features`             | step 2 as a network (step 3 is `backbone/distill.py`)                 |
| `probe`       | `probe`                      | measures what features tell, before and after denoising               |
| `detectors`   | `train`, `infer`             | fits detectors on good images; gives each image a score and a map     |
| `fusion`      | `fuse`                       | averages several detectors after rank normalization                   |
| `score`       | `score`                      | sets thresholds; computes metrics and confidence intervals            |
| `paired`      | none: `burnish diff`         | compares two sets of scores on the same images                        |
| `drift`       | none: retraining             | tests whether new images differ from the training images              |
| `onnx_graphs` | none: `burnish export`       | writes networks and detectors as ONNX graphs, and compares both       |

A room does not import another room, with these exceptions: `denoise` reads the backbone's interface, `paired` uses the
metrics of `score`, and `onnx_graphs` reads what it exports (detectors, backbone, denoise, fusion, score). The modules
beside the rooms serve all of them:

- `types.py`: parameter sections, rows, samples, fitted models, score maps, the error that a user can fix.
- `images.py`: image files to RGB arrays and masks.
- `training.py`, `lightning_loop.py`: train any network; resumable, and byte-identical after a kill.
- `torch_setup.py`: to be imported before torch's companions; devices, and one thread.
- `array_store.py`: arrays of many rows as Zarr stores.
- `item_cache.py`, `code_version.py`: results per image, stored under a key of all that they depend on.

Terms are explained in `stages/GLOSSARY.md`.
"""

import os
import warnings

# torch imports a package that warns about its own name, on every machine.
warnings.filterwarnings("ignore", message="The pynvml package is deprecated", category=FutureWarning)
# torch's threads wait for each other by spinning. Beside another busy process they use up its core, and training takes
# nine times as long. With less spinning it takes three times as long, and without another process as long as before
# (`python -m tests.benchmarks.crowded`). The value is read when torch is imported.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
