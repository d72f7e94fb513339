"""`monitor-cli`, which `python -m monitor_cli` is too."""

import gc


def main() -> None:
    """The command line, with the collector of cycles seldom at work. What is imported stays: looking through it again
    and again as it grows, and once more at the end, takes a third of a short command's time. What a command makes is
    freed as its last reference goes; cycles are few, and those of a long one are found all the same."""
    gc.set_threshold(50_000, 20, 20)
    from monitor_cli import cli

    try:
        cli.main()
    finally:
        gc.freeze()


if __name__ == "__main__":
    main()
