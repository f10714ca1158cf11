//! Operations on objects, for HTTP and for controllers in the process.
