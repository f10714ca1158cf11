//! A response's body: bounded by what was asked for, and not allowed to trickle for ever.

use std::io::{self, Read};
use std::time::{Duration, Instant};

use super::Patience;

pub(super) struct Body {
    url: String,
    inner: Box<dyn Read + Send>,
    patience: Patience,
    /// Bytes before the first one wanted: a server that ignores ranges sends them.
    skip: u64,
    /// Bytes still to come.
    left: u64,
    /// Time spent waiting for the network since the window began; a slow reader is not the server's fault.
    waited: Duration,
    /// Bytes in this window.
    arrived: u64,
    failed: bool,
}

impl Body {
    pub(super) fn new(
        url: String,
        inner: Box<dyn Read + Send>,
        patience: Patience,
        skip: u64,
        left: u64,
    ) -> Self {
        Self { url, inner, patience, skip, left, waited: Duration::ZERO, arrived: 0, failed: false }
    }

    pub(super) fn empty() -> Self {
        Self::new(String::new(), Box::new(io::empty()), Patience::default(), 0, 0)
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let began = Instant::now();
        let count = self.inner.read(buffer)?;
        self.waited += began.elapsed();
        self.arrived += count as u64;
        if self.waited >= self.patience.stall {
            let rate = self.arrived as f64 / self.waited.as_secs_f64();
            if count > 0 && rate < self.patience.min_rate as f64 {
                let text = format!("only {rate:.0} bytes/s came during {:.0?}", self.waited);
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            (self.waited, self.arrived) = (Duration::ZERO, 0);
        }
        Ok(count)
    }

    fn skip(&mut self) -> io::Result<()> {
        let mut waste = vec![0; 64 * 1024];
        while self.skip > 0 {
            let most = usize::try_from(self.skip).unwrap_or(usize::MAX).min(waste.len());
            let count = self.receive(waste.get_mut(..most).unwrap_or_default())?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.skip -= count as u64;
        }
        Ok(())
    }

    fn next(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.skip()?;
        if self.left == 0 {
            return Ok(0);
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.receive(buffer.get_mut(..most).unwrap_or_default())?;
        if count == 0 && most > 0 {
            let text = format!("it ended {} bytes early", self.left);
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        }
        self.left -= count as u64;
        if self.left == 0 {
            // Reading to the end hands the connection back to the pool; a byte too many is an answer too long.
            match self.inner.read(&mut [0]) {
                Ok(0) | Err(_) => {}
                Ok(_) => {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "it is longer than its descriptor says",
                    ));
                }
            }
        }
        Ok(count)
    }
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.failed {
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, format!("{} failed before", self.url)));
        }
        self.next(buffer).inspect_err(|_| self.failed = true).map_err(|error| {
            let cause = match error.get_ref().and_then(|inner| inner.downcast_ref::<ureq::Error>()) {
                Some(ureq::Error::Timeout(_)) => "the transfer made no progress".to_owned(),
                _ => error.to_string(),
            };
            io::Error::new(error.kind(), format!("cannot read {} to its end: {cause}", self.url))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Trickle;

    impl Read for Trickle {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            std::thread::sleep(Duration::from_millis(5));
            buffer[0] = b'x';
            Ok(1)
        }
    }

    #[test]
    fn a_trickle_is_a_stall() {
        let patience =
            Patience { stall: Duration::from_millis(30), min_rate: 1 << 20, ..Patience::default() };
        let error =
            Body::new("u".into(), Box::new(Trickle), patience, 0, 1 << 20).read_to_end(&mut Vec::new());
        assert!(error.unwrap_err().to_string().contains("bytes/s"));
    }

    #[test]
    fn skips_bounds_and_tells_short_from_long() {
        let body = |text: &'static [u8], skip, left| {
            Body::new("u".into(), Box::new(text), Patience::default(), skip, left)
        };
        let mut read = Vec::new();
        body(b"abcdef", 2, 4).read_to_end(&mut read).unwrap();
        assert_eq!(read, b"cdef");
        let short = body(b"abc", 0, 4).read_to_end(&mut Vec::new()).unwrap_err();
        assert!(short.to_string().contains("1 bytes early"), "{short}");
        let long = body(b"abcde", 0, 4).read_to_end(&mut Vec::new()).unwrap_err();
        assert!(long.to_string().contains("longer"), "{long}");
        assert_eq!(body(b"", 0, 0).read_to_end(&mut Vec::new()).unwrap(), 0);
    }
}
