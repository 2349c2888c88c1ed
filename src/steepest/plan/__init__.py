"""From a trace to passes over memory: the plan, the planner, and the plan explained to a person."""
