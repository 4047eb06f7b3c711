"""The version of an installed calculator, without a search through every file of every package."""

from __future__ import annotations

from importlib import metadata

from ionloop.codes.forcefield.model import _installed_version


def test_it_is_what_importlib_says() -> None:
    known = metadata.packages_distributions()
    assert len(known) > 50
    for package, (first, *_) in known.items():
        if package.isidentifier():
            assert _installed_version(package) == metadata.version(first), package


def test_a_module_of_the_users_own_has_none() -> None:
    assert _installed_version("no_such_package") is None
