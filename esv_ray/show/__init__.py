"""One attributed video as people see it: in the terminal, in a notebook, as a picture or a page."""
