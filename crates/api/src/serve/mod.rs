//! HTTP: routing, negotiation, discovery, watch streams.
