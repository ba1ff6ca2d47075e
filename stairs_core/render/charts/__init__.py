"""Charts of a race as plain data in plotly's form, each with a table of its numbers.

A chart is a function that takes a ``Race`` and returns a dict; ``race.charts`` lists them all, so a
new one is a module here and its name there. Numbers come from ``traces``; here they are only
thinned out and drawn.
"""
