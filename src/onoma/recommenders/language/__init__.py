"""Systems that ask a language model: one a file."""
