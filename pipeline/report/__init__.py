"""The report: one HTML page that needs nothing but itself.

`contents` gathers it: `figures`, `data` and `audit` put results into tables and words, `charts` into paths, `cases` and
`pictures` into small images; `page` lays all out with the templates beside it. `circumstances` adds what is no result:
commit, machine and times.
"""
