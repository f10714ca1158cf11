//! Those who connect to a socket of this process.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::sleep;

/// Hears each of them, so many at the same time, for as long as it is polled; others wait in the socket's queue.
pub(super) async fn each<H>(listener: UnixListener, many: usize, hear: impl Fn(UnixStream) -> H)
where
    H: Future<Output = io::Result<()>> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(many));
    loop {
        // Closed it never is.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let hearing = hear(stream);
                tokio::spawn(async move {
                    // Whoever goes away does not want to know.
                    let _gone = hearing.await;
                    drop(place);
                });
            }
            // It passes, or nothing here would help.
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    }
}
