//! OpenAPI v2 and v3 of all that is served.
