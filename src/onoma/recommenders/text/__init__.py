"""Models that read and write text: prompts, tokens, names said as words."""
