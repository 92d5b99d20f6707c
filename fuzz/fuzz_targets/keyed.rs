#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| haulout_fuzz::keyed(bytes));
