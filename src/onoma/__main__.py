"""``python -m onoma``."""

from onoma.cli.main import main

main()
