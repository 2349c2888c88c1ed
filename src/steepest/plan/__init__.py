"""From a trace to passes over memory: the plan and the planner."""
