//! domicile.
mod config;
fn main() {
    let _ = config::load(std::path::Path::new(config::DEFAULT_PATH));
}
