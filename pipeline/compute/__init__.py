"""Computes the items of single images in this process, in local processes, or on a Dask cluster.

`fan_out` is the entry point. Every executor returns the same items in the same order.
"""
