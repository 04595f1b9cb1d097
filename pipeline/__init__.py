"""Runs the stages, and everything around them. What a stage computes is in `stages`.

The rooms. A module may import rooms below its own, and never a room above it:

    ↓  cli            the command `burnish`: options, help texts, manual
    ↓  doctor         looks for faults of the machine, the installation and the project
    ↓  retrain        trains a challenger with new images, and promotes it if it passes the gate
    ↓  orchestration  `burnish run`: the graph, the state of a run, processes, the Prefect server
    ↓  export         detectors as ONNX files
    ↓  judge          verdicts on new images
    ↓  bundle         the models of a run as one folder, and the champion
    ↓  compare        two commits compared image by image, and the gate
    ↓  stage_io       one module per stage or pair of stages: loads inputs, calls the stage, saves outputs
    ↓  report         a run as one HTML page
    ↓  compute        computes items of single images: in this process, in local processes, or on a Dask cluster
    ↓  show           what people see: tables, plots, overlays, the terminal
    ↓  project        root, paths, parameters, git, exit codes, faults
"""
