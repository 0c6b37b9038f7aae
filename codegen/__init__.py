"""Spec in, code out: writes `generated/` from OfferGrid's reference page.

Read it as a document travels: `fetch` (bytes), `extract` (the document inside a page), `document` (values, and
the line on which each stood), `validate`, `overlay` (what the guides know beyond the document), `operations` (the
table), `generate` (the files), `folder` (putting them down, or comparing them). `compare` says what changed.
Nothing imports this package; it needs the packages of requirements/codegen.txt and is run as `python -m codegen`.
"""
