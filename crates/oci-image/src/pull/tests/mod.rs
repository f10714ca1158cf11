//! Pulls from sources that live in memory, and misbehave in every way a registry can.

mod bad;
mod crash;
mod good;
mod source;
