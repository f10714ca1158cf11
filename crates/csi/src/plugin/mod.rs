//! A driver for volumes of this machine.

mod backend;
mod dispatch;
mod pool;
mod text;
mod turns;
