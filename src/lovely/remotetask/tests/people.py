"""Five people, one for each role and one for none, before Zope's security policy."""
from contextlib import contextmanager

import zope.annotation
import zope.principalregistry
import zope.securitypolicy
from zope.authentication.interfaces import IAuthentication
from zope.component import provideUtility
from zope.configuration import xmlconfig
from zope.password.password import SSHAPasswordManager
from zope.principalregistry.principalregistry import principalRegistry
from zope.security.management import (
    endInteraction, newInteraction, setSecurityPolicy, system_user)
from zope.securitypolicy.principalrole import principalRoleManager
from zope.securitypolicy.zopepolicy import ZopeSecurityPolicy

import lovely.remotetask
from lovely.remotetask import access
from lovely.remotetask.runtime import frames

#: id -> role; the id is also login and, in tests over HTTP, password.
PEOPLE = {"viewer": access.VIEWER, "submitter": access.SUBMITTER,
          "operator": access.OPERATOR, "manager": access.MANAGER}


def define_people():
    """Define them and grant each the role; anonymous needs nothing."""
    for id, role in PEOPLE.items():
        principalRegistry.definePrincipal(
            id, id.title(), login=id,
            password=SSHAPasswordManager().encodePassword(id),
            passwordManagerName="SSHA")
        principalRoleManager.assignRoleToPrincipal(role, id)


def forget_people():
    for id, role in PEOPLE.items():
        principalRoleManager.unsetRoleForPrincipal(role, id)
    principalRegistry._clear()


def set_up(test):
    """Our ZCML, the people and the policy, until the test ends."""
    context = xmlconfig.file("meta.zcml", zope.securitypolicy)
    for package in zope.annotation, zope.securitypolicy:
        xmlconfig.file("configure.zcml", package, context=context)
    context = xmlconfig.file("configure.zcml", lovely.remotetask, context=context)
    provideUtility(principalRegistry, IAuthentication)
    define_people()
    test.addCleanup(forget_people)
    test.addCleanup(setSecurityPolicy, setSecurityPolicy(ZopeSecurityPolicy))
    test.addCleanup(endInteraction)
    return context


@contextmanager
def acting_as(id):
    """The person of that id acts; "anonymous" is somebody who has not logged in, and
    "system" the system itself."""
    if id == "system":
        principal = system_user
    elif id == "anonymous":
        principal = Anonymous()
    else:
        principal = principalRegistry.getPrincipal(id)
    endInteraction()
    newInteraction(frames.Participation(principal))
    try:
        yield
    finally:
        endInteraction()


class Anonymous:
    id, title, description = "zope.anybody", "Nobody", ""
    groups: tuple[str, ...] = ()
