"""What the shop does later. Each job has an application context of its own, so `db.session` works as in a view."""

from examples.flask_app.models import Order, db
from pgqueue import task


@task
def confirm(order_id: int) -> str:
    """Write the confirmation of an order."""
    order = db.session.get_one(Order, order_id)
    order.confirmation = f"your {order.item} is on its way"
    db.session.commit()
    return f"order {order.id}: {order.confirmation}"
