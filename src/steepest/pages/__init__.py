"""What the library's HTML pages have in common: a look, Bokeh's pictures in it, one file that needs no network.

`steepest.pages.figures` draws, `steepest.pages.sheet` puts together. Nothing here knows what a page is about.
"""
