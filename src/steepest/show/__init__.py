"""A plan and its mathematics shown to a person: as text, and as equations in the papers' letters."""
