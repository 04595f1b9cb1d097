"""Where the work of single images is done: this process, local processes, or a Dask cluster."""
