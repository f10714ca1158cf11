//! The parts of the shop in `examples/`, each in pods of its own: a database, an API before it, a page before that, and customers.

use std::fs::{self, File};
use std::io::{Error, Result, Write as _};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::app::{Answer, ask, host, missing, serve};

/// How long a customer waits for the shop to open.
const PATIENCE: Duration = Duration::from_secs(60);

/// Keeps orders in a file of `folder`, a line each.
pub(super) fn database(folder: &str) -> Result<()> {
    let file = PathBuf::from(folder).join("orders");
    let writing = Mutex::new(());
    serve(move |method, path, body| match (method, path) {
        ("GET", "/orders") => (200, fs::read_to_string(&file).unwrap_or_default()),
        ("POST", "/orders") => {
            let _alone = writing.lock();
            let keep = || -> Result<()> {
                let mut orders = File::options().create(true).append(true).open(&file)?;
                writeln!(orders, "{}", body.replace('\n', " "))?;
                orders.sync_all()
            };
            keep().map_or_else(|error| (500, error.to_string()), |()| (200, "kept".into()))
        }
        ("GET", "/healthz" | "/") => (200, format!("{} keeps orders", host())),
        _ => missing(path),
    })
}

/// Takes orders, and counts them.
pub(super) fn api(database: &str) -> Result<()> {
    let database = database.to_owned();
    serve(move |method, path, body| match (method, path) {
        ("GET", "/orders") => passed(ask("GET", &database, "/orders", "")),
        ("POST", "/orders") if body.trim().is_empty() => (400, "an order says what is wanted".into()),
        ("POST", "/orders") => passed(ask("POST", &database, "/orders", body)),
        ("GET", "/count") => {
            passed(ask("GET", &database, "/orders", "").map(|all| all.lines().count().to_string()))
        }
        ("GET", "/healthz" | "/") => (200, format!("{} takes orders", host())),
        _ => missing(path),
    })
}

/// What customers see.
pub(super) fn web(api: &str) -> Result<()> {
    let api = api.to_owned();
    serve(move |method, path, body| match (method, path) {
        ("GET", "/") => passed(
            ask("GET", &api, "/count", "").map(|count| format!("this is {}: {count} orders so far", host())),
        ),
        ("GET" | "POST", "/orders") => passed(ask(method, &api, path, body)),
        ("GET", "/healthz") => (200, "open".into()),
        _ => missing(path),
    })
}

/// Orders `count` things, and sees whether they are on the list.
pub(super) fn order(web: &str, count: &str) -> Result<()> {
    let count: usize = count.parse().map_err(Error::other)?;
    let customer = host();
    let until = Instant::now() + PATIENCE;
    for number in 1..=count {
        // The shop may open later than its customers come.
        while let Err(error) = ask("POST", web, "/orders", &format!("{customer}: apple {number}")) {
            if Instant::now() > until {
                return Err(error);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        println!("ordered apple {number}");
    }
    let orders = ask("GET", web, "/orders", "")?;
    let own = orders.lines().filter(|line| line.starts_with(&customer)).count();
    println!("{own} of {} orders are of {customer}", orders.lines().count());
    if own >= count { Ok(()) } else { Err(Error::other(format!("only {own} of {count} orders were kept"))) }
}

fn passed(answer: Result<String>) -> Answer {
    answer.map_or_else(|error| (502, error.to_string()), |body| (200, body))
}
