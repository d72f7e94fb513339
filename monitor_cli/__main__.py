"""`python -m monitor_cli` is `monitor-cli`."""

from monitor_cli.cli import main

if __name__ == "__main__":
    main()
