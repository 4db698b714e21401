//! Embeds `migrations/{directory,region}` into the library, in the order of their numbers, and has it
//! rebuilt when a file is added, changed or removed.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    let migrations = Path::new(&env::var("CARGO_MANIFEST_DIR").expect("cargo names the crate's folder"))
        .join("../../migrations")
        .canonicalize()
        .expect("the folder `migrations` is at the top of the repository");
    let mut code = String::new();
    for (set, name) in [("DIRECTORY", "directory"), ("REGION", "region")] {
        let folder = migrations.join(name);
        println!("cargo::rerun-if-changed={}", folder.display());
        writeln!(code, "const {set}: &[Embedded] = &[").expect("a string takes text");
        for (version, file) in numbered(&folder) {
            println!("cargo::rerun-if-changed={}", file.display());
            let stem = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let description = stem.split_once('_').map_or("", |(_, rest)| rest).replace('_', " ");
            writeln!(
                code,
                "    Embedded {{ version: {version}, description: {description:?}, sql: include_str!({file:?}) }},"
            )
            .expect("a string takes text");
        }
        code.push_str("];\n");
    }
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo names the output folder")).join("migrations.rs");
    fs::write(out, code).expect("the output folder can be written");
}

/// The `<number>_<words>.sql` files of a folder, by number.
fn numbered(folder: &Path) -> Vec<(i64, PathBuf)> {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{} cannot be read: {e}", folder.display()));
    let mut files: Vec<(i64, PathBuf)> = entries
        .map(|entry| entry.expect("the folder can be listed").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "sql"))
        .map(|path| {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let number = stem.split('_').next().and_then(|digits| digits.parse().ok());
            (number.unwrap_or_else(|| panic!("{} is not named <number>_<words>.sql", path.display())), path)
        })
        .collect();
    files.sort();
    for pair in files.windows(2) {
        assert!(pair[0].0 != pair[1].0, "two migrations have the number {}", pair[0].0);
    }
    files
}
