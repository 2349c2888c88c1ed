"""One step of any optimizer, whatever the framework: groups, histories, states, and what is saved of them."""
