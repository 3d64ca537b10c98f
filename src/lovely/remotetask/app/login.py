"""The login of the one who started the application: made once, kept in a file."""
import json
import os
import secrets
from typing import NamedTuple

from zope.password.password import SSHAPasswordManager
from zope.principalregistry.principalregistry import (
    DuplicateId, DuplicateLogin, principalRegistry)

from lovely.remotetask.app.problems import CannotStart

#: The id under which this principal owns jobs; site.zcml grants it everything.
MANAGER = "zope.manager"


class Login(NamedTuple):
    login: str
    password: str


def get(path) -> Login:
    """The login kept in *path*, made there if there is none."""
    try:
        # Mode and existence in one step: nobody else can read it, ever.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return _read(path)
    except OSError as error:
        raise CannotStart(f"{path} cannot be written: {error.strerror}") from error
    made = Login("admin", secrets.token_urlsafe(12))
    with os.fdopen(descriptor, "w") as file:
        json.dump(made._asdict(), file, indent=2)
        file.write("\n")
    return made


def _read(path) -> Login:
    try:
        os.chmod(path, 0o600)
        kept = json.loads(path.read_text("utf-8"))
        login = Login(kept["login"], kept["password"])
        if not all(isinstance(word, str) and word for word in login):
            raise ValueError("both must be texts")
        return login
    except OSError as error:
        raise CannotStart(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise CannotStart(
            f'{path} must hold {{"login": ..., "password": ...}}, as JSON. Repair '
            "it, or remove it to have a new login made.", exit_code=2) from error


def define(login: Login) -> None:
    """Let the holder of *login* in, as the manager.  Only a hash is kept."""
    password = SSHAPasswordManager().encodePassword(login.password)
    try:
        principalRegistry.definePrincipal(
            MANAGER, "Manager", login=login.login, password=password,
            passwordManagerName="SSHA")
    except (DuplicateId, DuplicateLogin) as error:
        raise CannotStart(
            f"There is another principal {MANAGER!r} or another login {login.login!r}: "
            "site.zcml defines one, or this process runs another application.",
            exit_code=2) from error
