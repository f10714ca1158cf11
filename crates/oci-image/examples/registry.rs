//! A registry in a folder, until the process ends: `cargo run -p oci-image --example registry -- DIR 127.0.0.1:5000`.

use std::io::Read;

use oci_image::registry::server::{Config, Server};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().ok_or("name a folder")?.into();
    let listen = arguments.next().unwrap_or_else(|| "127.0.0.1:5000".to_owned()).parse()?;
    let user =
        arguments.next().and_then(|pair| pair.split_once(':').map(|(u, p)| (u.to_owned(), p.to_owned())));
    let handle = Server::start(Config { dir, listen, user })?;
    println!("{}", handle.addr());
    // Whoever started it ends it by closing its standard input.
    std::io::stdin().read_to_end(&mut Vec::new())?;
    handle.shutdown();
    Ok(())
}
