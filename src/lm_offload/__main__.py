"""`python -m lm_offload` is `lm-offload`."""

from lm_offload.cli.main import main

if __name__ == "__main__":
    main()
