"""`baton profile`: measures an engine on the hardware at hand into a profile of the simulator.

`points` says what is measured, `meter` measures it on a running engine, `store` keeps what was
measured in the profile's file, point by point, `command` starts the engine and tells.
"""
