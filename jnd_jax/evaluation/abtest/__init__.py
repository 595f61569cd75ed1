"""Blind tests with people: `build` makes the page, `server` hosts it, `answers` reads and checks, `analysis` judges."""
