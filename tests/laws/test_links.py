"""What the pages point to is there, and a reading order is short."""

import re

import pytest

from . import source

PAGES = [*source.ROOT.glob("*.md"), *source.ROOT.glob("docs/*.md")]


def links(text):
    """The targets of a page's links that are files."""
    return [t for t in re.findall(r"\]\(([^)#\s]+)", text) if "://" not in t]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_link_leads_to_a_file(page):
    assert [t for t in links(page.read_text()) if not (page.parent / t).exists()] == []


def test_the_reading_orders_have_eight_links_at_most():
    text = (source.ROOT / "README.md").read_text()
    orders = text.split("## Reading orders")[1].split("\n## ")[0].strip().split("\n\n")
    firsts = ["One batch", "One Jacobian", "One row of a table", "One trial of a sweep"]
    assert [first for first, order in zip(firsts, orders, strict=True) if not order.startswith(first)] == []
    assert max(len(links(order)) for order in orders) <= 8
