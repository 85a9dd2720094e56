"""A shop that writes orders with SQLAlchemy and tells others of them through Redis Streams: the transactional outbox."""
