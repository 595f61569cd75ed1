"""The HTTP service: encode and decode, and a gateway that shows stored .jnd files to browsers.

`app` holds the routes; `workers` and `jobs` the processes that code images, bounded in memory and time; `turns` the
queue before them; `cache` what they made; `command` is `jnd-jax serve`. docs/serving.md is the manual.
"""
