"""The language in which rules are written: values, functions on them, rules, chains, and their trace."""
