"""`burnish predict`: decide on new images with the models of a bundle, without DVC and without the project.

`command` runs the command. `selection` finds bundle, category, detectors and images; `images` and `chunks` read the
images; `models` and `features` score them; `prediction` decides; `results` and `summary` write and print the outcome.
"""
