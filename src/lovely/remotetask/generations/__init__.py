"""The upgrade of a whole database: every service that release 0.5 has left in it."""
from zope.generations.generations import SchemaManager

from lovely.remotetask.generations.database import Report, services, upgrade_database

__all__ = ["Report", "schemaManager", "services", "upgrade_database"]

schemaManager = SchemaManager(
    minimum_generation=1, generation=1, package_name="lovely.remotetask.generations")
