"""What a run leaves behind: its records, their files, and the numbers that follow from them.

Standard library only. A number that a person sees is computed here, from records, and nowhere else.
Nothing here can see a model or decides how something looks.
"""
