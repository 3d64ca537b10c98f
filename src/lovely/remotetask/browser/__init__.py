"""Pages for people: in the ZMI, and in a skin of their own.

    layout      the frame of every page, and what pages share
    jobs        the list of jobs, and what is done to many of them
    addjob      a new job;  addcronjob  a new schedule
    services    the start page: all services that one may see
"""
from zope.i18nmessageid import MessageFactory

_ = MessageFactory("lovely.remotetask")
