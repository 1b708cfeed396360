"""How many workers each pool should have: `law.decide(view, memory, now, rules)`. Pure.

`view` is what the controller is shown, `decision` what the law says and why, `memory` what it
remembers (JSON on demand). `forecast` looks one start-up ahead, `pools` judges one pool, `together`
weighs both pools against each other and the budget.
"""
