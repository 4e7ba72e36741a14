"""What `check_plugin` looks at, one matter a file. Each yields faults and raises nothing."""
