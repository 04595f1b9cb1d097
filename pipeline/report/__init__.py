"""The report: all results of a run as one HTML page that loads nothing from elsewhere.

`contents` gathers what the page shows. `figures`, `data`, `audit` and `denoising` turn results into tables and text,
`charts` into SVG paths, `cases` and `pictures` into small images. `page` fills in the templates. `run_facts`,
`stage_times` and `machine` add what is not a result: commit, times and machine.
"""
