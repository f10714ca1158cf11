//! Any text where AWS' answers, files of sections and services' annotations are read. No panic; what is wrong is told briefly.

pub fn run(text: &str) {
    aws::fuzz::answers(text);
    aws::fuzz::credentials(text.as_bytes());
    aws::fuzz::files(text);
    if let Ok(service) = serde_json::from_str(text) {
        aws::fuzz::service(&service);
    }
}
