"""What jobs of release 0.5 may have kept beside themselves: values of an application.

The databases name this module `shop`; it runs on Python 2 and 3.
"""
from persistent import Persistent


class Article(Persistent):
    """A stored object that a job is about."""

    def __init__(self, name):
        self.name = name


class Order(object):
    """A plain object in an input or an output."""

    def __init__(self, *articles):
        self.articles = list(articles)

    def __repr__(self):
        return "Order%r" % (tuple(self.articles),)

    def __eq__(self, other):
        return type(other) is type(self) and other.articles == self.articles


class OutOfStock(Exception):
    """Pickles well and can never be made again: it takes two arguments, keeps one."""

    def __init__(self, article, wanted):
        Exception.__init__(self, "%s pieces of %s are not there" % (wanted, article))
        self.article = article


class Sealed(object):
    """A value whose record cannot be read back."""

    def __getstate__(self):
        return {"seal": "whole"}

    def __setstate__(self, state):
        raise ValueError("the seal is broken")
