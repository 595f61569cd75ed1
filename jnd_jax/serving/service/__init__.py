"""The HTTP service: encodes and decodes, and shows stored .jnd files to browsers; docs/serving.md is the manual.

app: the routes.  workers, jobs: processes that code images, bounded in memory and time.  turns: the queue before them.
cache: recent answers.  command: `jnd-jax serve`.
"""
