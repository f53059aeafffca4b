"""``python -m depara_bench``."""

from depara_bench.cli import main

main()
