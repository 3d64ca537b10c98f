"""A storage in zope.conf that is named by a URI.

    %import lovely.remotetask.app
    <zodb>
      <uristorage>
        uri zeo://127.0.0.1:8100
      </uristorage>
    </zodb>
"""
from ZODB.config import BaseConfig
from ZODB.FileStorage import FileStorage

from lovely.remotetask import uris


class URIStorage(BaseConfig):

    def open(self):
        """See ZODB.config.  Raises BadURI, and what the storage raises."""
        uri = self.config.uri
        if getattr(self.config, "read_only", False):
            return FileStorage(str(uris.file_of(uri)), read_only=True)
        factory, options = uris.resolve(uri)
        _, defaults = uris.resolve("memory://")
        said = sorted(name for name, value in options.items()
                      if value != defaults.get(name))
        if said:
            raise uris.BadURI(
                f"{uris.hidden(uri)}: {', '.join(said)} is for <zodb> to say")
        return factory()
