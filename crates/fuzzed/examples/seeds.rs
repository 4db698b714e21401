//! Writes what is known to be good into a folder for each reader: what libFuzzer begins from.

use std::path::PathBuf;

fn main() -> std::io::Result<()> {
    let folder = PathBuf::from(std::env::args_os().nth(1).unwrap_or_else(|| "fuzz/corpus".into()));
    for (name, _) in fuzzed::TARGETS {
        let folder = folder.join(name);
        std::fs::create_dir_all(&folder)?;
        for (index, seed) in fuzzed::seeds(name).iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{index}")), seed)?;
        }
    }
    Ok(())
}
