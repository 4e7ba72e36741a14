"""What every room may use: errors, ids, time, JSON, logs, traces, metrics. No I/O."""
