"""The reports of docs/results.md: what recipes and samplers are worth on embedded data."""
