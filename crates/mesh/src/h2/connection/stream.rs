//! One stream.

use crate::h2::frame::LARGEST;

/// How far one direction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Half {
    /// The head comes next.
    Head,
    /// Data, or trailers.
    Body,
    /// Nothing comes any more.
    Done,
}

impl Half {
    pub(super) fn body(end: bool) -> Self {
        if end { Self::Done } else { Self::Body }
    }
}

/// A stream that nobody has released yet.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) receiving: Half,
    pub(super) sending: Half,
    /// It has ended by RST_STREAM of either side.
    pub(super) reset: bool,
    /// So much may be sent; less than nothing if the peer made its windows smaller.
    pub(super) out_window: i64,
    /// So much may come.
    pub(super) in_window: i64,
    /// So much has come and was not given back.
    pub(super) held: u32,
    /// So much was given back and not told.
    pub(super) owed: u32,
    /// So much is still to come of what `content-length` says.
    pub(super) left: Option<u64>,
    /// Its request was a HEAD.
    pub(super) bodyless: bool,
}

impl Stream {
    pub(super) fn new(receiving: Half, sending: Half, out_window: u32, in_window: u32) -> Self {
        Self {
            receiving,
            sending,
            reset: false,
            out_window: out_window.into(),
            in_window: in_window.into(),
            held: 0,
            owed: 0,
            left: None,
            bodyless: false,
        }
    }

    /// Nothing goes either way any more.
    pub(super) fn is_over(&self) -> bool {
        self.reset || (self.receiving == Half::Done && self.sending == Half::Done)
    }

    /// Whether so many bytes, and nothing behind them if it is the `end`, are what was announced.
    pub(super) fn announced(&mut self, count: usize, end: bool) -> Result<(), &'static str> {
        if let Some(left) = self.left {
            let left = left.checked_sub(count as u64).ok_or("more data than content-length says")?;
            if end && left > 0 {
                return Err("less data than content-length says");
            }
            self.left = Some(left);
        }
        Ok(())
    }
}

/// Makes a window larger, or smaller; false if it would be larger than one may be.
pub(super) fn widen(window: &mut i64, by: i64) -> bool {
    *window += by;
    *window <= i64::from(LARGEST)
}
