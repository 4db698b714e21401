//! [`fuzzed::pack_files`], driven by libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| fuzzed::pack_files(data));
