"""A check as one HTML page that needs nothing else: no script, no network, no file beside it.

render.py      result, operators, pictures ─► the page
verdict.py     its first sentences
charts.py      axes and bars: values ─► places in an SVG
thumbnails.py  an image ─► a data: URL
numbers.py     a figure ─► its text
templates/     the page's parts, one a file, in the order of page.html; page.css
"""

from bnncc.check.page.render import MOST_IMAGES, write_page

__all__ = ["MOST_IMAGES", "write_page"]
