"""A shop in Flask and Flask-SQLAlchemy: an order and the job that confirms it are one transaction."""
