"""What an operator has on the desk: the settings and all that they lead to, and the way from a wish to a plan.

The command line and the flows are two faces of this one room, so that they give the same answers.
"""
