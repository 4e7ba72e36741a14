"""`make chaos`: the faults of docs/guides/guarantees.md at full size, and the table there."""
