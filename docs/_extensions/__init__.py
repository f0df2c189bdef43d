"""What Sphinx lacks for this site: docstrings in Keras's form, a page per room, links by name, maths offline."""
