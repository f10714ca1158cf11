//! What keeps the objects themselves in order.
