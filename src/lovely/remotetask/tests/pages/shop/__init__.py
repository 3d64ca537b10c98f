"""A shop whose work is done by jobs: what the browser tests and the pictures show."""
from zope.interface import Interface
from zope.schema import Bool, Choice, TextLine, Tuple

from lovely.remotetask import SimpleTask
from lovely.remotetask.interfaces import ITaskService

STEPS = 30


class IOrder(Interface):
    """What is ordered."""

    customer = TextLine(title="Customer", min_length=2)
    articles = Tuple(title="Articles", value_type=TextLine(), required=False)
    shipping = Choice(title="Shipping", values=("letter", "parcel", "pigeon"),
                      default="parcel")
    express = Bool(title="Express", required=False)


def order(input):
    """Put an order together and reserve its articles."""
    return {"order": input["customer"], "articles": len(input.get("articles") or ())}


def catalogue(input, context):
    """Draw the catalogue anew, page by page."""
    for step in range(STEPS):
        context.progress(step, STEPS, f"page {step + 1} of {STEPS}")
        context.logger.info("page %s is drawn", step + 1)
        if context.wait(0.1):
            return None
    return f"{STEPS} pages"


def payment(input, context):
    """Charge the card.  The bank is out of order at the first time."""
    if context.attempt == 1:
        raise ConnectionError(f"the bank does not answer: card of {input!r}")
    return "paid"


def newsletter(input):
    """Write to all customers."""
    return {"sent": input}


orderTask = SimpleTask(order, IOrder)
catalogueTask = SimpleTask(catalogue, wantsContext=True)
paymentTask = SimpleTask(payment, wantsContext=True, retries=0)
newsletterTask = SimpleTask(newsletter)


def open_shop(event):
    """At the first start: some of everything."""
    service = event.root.getSiteManager().getUtility(ITaskService, "shop")
    names = ("Ada", "Grace", "Alan", "Barbara", "Edsger", "Frances", "Niklaus", "Radia")
    for number in range(40):
        service.add("shop.order", {
            "customer": names[number % len(names)], "shipping": "parcel",
            "articles": ("pencil", "paper")[:number % 3]},
            title=f"Order {4711 + number}", tags=("order",))
    for number in range(3):
        service.add("shop.payment", names[number], title=f"Payment of {names[number]}",
                    tags=("order", "bank"))
    service.add("shop.newsletter", 1200, delay=7200, title="News of the week")
    service.add("shop.newsletter", 80, startLater=True, title="Closing down sale")
    service.cancel(service.add("shop.newsletter", 1, startLater=True, title="A test"))
    service.addCronJob("shop.newsletter", 1200, schedule="0 7 * * mon", missed="skip",
                       timezone="Europe/Berlin", title="Weekly newsletter")
    service.addCronJob("shop.catalogue", schedule="30 2 * * *", timezone="Europe/Berlin",
                       title="Catalogue of the day", overlap="queue one")
    service.addCronJob("shop.order", {"customer": "The shop itself", "shipping": "letter"},
                       schedule="*/15 8-18 * * mon-fri", title="Stock up")
