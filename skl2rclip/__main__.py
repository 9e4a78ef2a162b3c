"""`python -m skl2rclip`, the same as the command `skl2rclip`."""

from skl2rclip._cli.main import main

if __name__ == "__main__":  # processes of a fit on several devices import it too
    raise SystemExit(main())
