"""From release 0.5."""
from lovely.remotetask.generations.database import upgrade_database


def evolve(context):
    """Bring the services of release 0.5 into today's shape.

    In commits of their own: what is done stays done when this is interrupted.
    """
    upgrade_database(context.connection.db())
