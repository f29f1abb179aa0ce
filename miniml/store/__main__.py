"""Runs the store's commands where only the extra `store` is installed; elsewhere use `miniml store`.

python -m miniml.store publish local_outputs/latest/model s3://models/movie-reviews@v1
"""

from __future__ import annotations

from miniml.store.commands import main

if __name__ == "__main__":
    main()
